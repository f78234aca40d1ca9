#include "vlmamba/train/stage_data.h"

#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
#include "vlmamba/core/rng.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

constexpr int64_t kNamed = 5;  // malformed records of a file that are named

// Where the index of a record file is kept: two files of one name have two.
std::string index_path(const std::string& folder, const std::string& records) {
  if (folder.empty()) return "";
  const auto path = std::filesystem::absolute(records).lexically_normal();
  return folder + "/" + path.stem().string() + "-" + io::sha256(path.string()).substr(0, 16) + ".index";
}

void check_expected(const RecordSetConfig& set, int64_t found) {
  if (set.expected_records > 0 && found != set.expected_records)
    throw Error(ExitCode::kData, set.records,
                "expected expected_records (" + std::to_string(set.expected_records) + ") records, got " +
                    std::to_string(found));
}

// Says which records of a file are malformed, or throws for the first, as the policy wants it.
int64_t count_malformed(const RecordFile& file, const SamplePolicy& policy) {
  int64_t malformed = 0;
  for (int64_t i = 0; i < file.size(); ++i) {
    if (!file.entry(i).malformed) continue;
    ++malformed;
    if (policy.on_bad_sample == OnBadSample::kSkip && malformed > kNamed) continue;
    try {
      file.read(i);
    } catch (const Error& error) {
      if (policy.on_bad_sample == OnBadSample::kError) throw;
      log::warn(std::string(error.what()) + ": skipped");
    }
  }
  if (malformed > kNamed) log::warn(file.path() + ": " + std::to_string(malformed) + " records are skipped in all");
  return malformed;
}

// Numbers of the well-formed records: those held back, and the others.
struct Split {
  std::vector<uint32_t> training, validation;
};
Split split(const RecordFile& file, int64_t held_back, uint64_t seed, size_t set) {
  std::vector<bool> is_held_back(static_cast<size_t>(file.size()));
  int64_t chosen = 0;
  if (held_back > 0)
    for (const int64_t number : Rng(seed, RngPurpose::kSplit, set).permutation(file.size())) {
      if (chosen == held_back) break;
      if (file.entry(number).malformed) continue;
      is_held_back[static_cast<size_t>(number)] = true;
      ++chosen;
    }
  Split parts;
  for (int64_t i = 0; i < file.size(); ++i)
    if (!file.entry(i).malformed)
      (is_held_back[static_cast<size_t>(i)] ? parts.validation : parts.training).push_back(static_cast<uint32_t>(i));
  return parts;
}

int64_t epoch_size_of(const SamplerInput& input) {
  int64_t size = 0;
  for (const auto& set : input.sets) size += records_of_epoch(set);
  return size;
}

}  // namespace

SampleReader StageData::training_reader() const {
  return SampleReader([this](int64_t number) { return training.read(number); }, reader, policy);
}

SampleReader StageData::validation_reader(size_t set) const {
  return SampleReader([this, set](int64_t number) { return validation[set].read(number); }, reader, policy);
}

StageData read_stage_data(const DataConfig& config, ExampleReader reader, uint64_t seed,
                          const std::string& index_folder) {
  StageData data{std::move(reader), config.policy, {}, {}, {}, 0, {}};
  for (size_t set = 0; set < config.sets.size(); ++set) {
    const RecordSetConfig& of = config.sets[set];
    const auto file = std::make_shared<const RecordFile>(of.records, index_path(index_folder, of.records));
    check_expected(of, file->size());
    data.left_out.skipped += count_malformed(*file, config.policy);
    Split parts = split(*file, config.validation_records, seed, set);
    if (parts.training.empty())
      throw Error(ExitCode::kData, of.records,
                  "expected more records than data.validation_records (" + std::to_string(config.validation_records) +
                      "), got " + std::to_string(parts.validation.size()));
    data.training.add(file, std::move(parts.training), set, of.weight);
    data.validation.emplace_back().add(file, std::move(parts.validation), set);
    data.set_names.push_back(of.name.empty() ? std::to_string(set) : of.name);
  }
  if (data.training.size() == 0)
    throw Error(ExitCode::kUsage, "data.sets", "expected at least one set of records, got none");
  check_counts(data.left_out, config.policy, " malformed ones");
  data.epoch_size = epoch_size_of(data.training.sampler_input());
  return data;
}

Sampler stage_sampler(const StageData& data, const BatchConfig& batch, uint64_t seed, uint32_t stage_index) {
  return Sampler({seed, stage_index, batch.group_by, batch.global_batch, batch.micro_batch},
                 data.training.sampler_input());
}

}  // namespace vlmamba
