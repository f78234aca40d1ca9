#include "vlmamba/train/stage_data.h"

#include "vlmamba/core/error.h"
#include "vlmamba/core/rng.h"

namespace vlmamba {

StageData read_stage_data(const DataConfig& config, ExampleReader reader, uint64_t seed) {
  StageData data{std::move(reader), {}, {}, {}};
  for (size_t set = 0; set < config.sets.size(); ++set) {
    auto records = read_records(config.sets[set].records, set);
    const auto count = static_cast<int64_t>(records.size());
    if (count <= config.validation_records)
      throw Error(ExitCode::kData, config.sets[set].records,
                  "expected more records than data.validation_records (" + std::to_string(config.validation_records) +
                      "), got " + std::to_string(count));
    const auto order = Rng(seed, RngPurpose::kSplit, set).permutation(count);
    std::vector<bool> held_out(records.size());
    for (int64_t i = 0; i < config.validation_records; ++i)
      held_out[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
    auto& validation = data.validation.emplace_back();
    for (size_t i = 0; i < records.size(); ++i)
      (held_out[i] ? validation : data.training).push_back(std::move(records[i]));
    data.set_names.push_back(config.sets[set].name.empty() ? std::to_string(set) : config.sets[set].name);
  }
  if (data.training.empty())
    throw Error(ExitCode::kUsage, "data.sets", "expected at least one set of records, got none");
  return data;
}

}  // namespace vlmamba
