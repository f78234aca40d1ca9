#include "vlmamba/study/run_folder.h"

#include <filesystem>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::study {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kParts = "parts";  // of a run, beside its stages

std::vector<std::string> names_in(const Json* array) {
  std::vector<std::string> names;
  if (array)
    for (const auto& item : array->items())
      if (const Json* name = item.find("name")) names.push_back(name->as_string());
  return names;
}

// Files of a stage are replaced by renaming, never written to in place (but its logs, which are cut back by renaming
// first): a link is as good as a copy.
void link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code failed;
  fs::create_hard_link(from, to, failed);
  if (failed) fs::copy_file(from, to);
}

void link_tree(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_directory())
      link_tree(entry.path(), to / entry.path().filename());
    else
      link_or_copy(entry.path(), to / entry.path().filename());
  }
}

// Frozen parts that checkpoints refer to. A name says what is in it; what an earlier try left may be torn.
void link_parts(const fs::path& from, const fs::path& to) {
  if (!fs::exists(from)) return;
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path part = to / entry.path().filename(), unfinished = part.string() + ".linking";
    if (fs::exists(part) && fs::equivalent(entry.path(), part)) continue;
    fs::remove(unfinished);
    link_or_copy(entry.path(), unfinished);
    fs::rename(unfinished, part);
  }
}

}  // namespace

std::vector<std::string> stage_names(const Json& config) { return names_in(config.find("stages")); }

std::vector<std::string> task_names(const Json& config) {
  const Json* eval = config.find("eval");
  return eval ? names_in(eval->find("tasks")) : std::vector<std::string>{};
}

std::optional<StageEnd> finished_stage(const std::string& run, const std::string& stage) {
  const io::CheckpointFolder checkpoints(run + "/" + stage + "/checkpoints");
  for (const int64_t step : checkpoints.steps()) {  // newest first
    const std::string folder = checkpoints.step_path(step), state = folder + "/state.json";
    if (!fs::exists(folder + "/manifest.json") || !fs::exists(state)) continue;
    const Json json = io::read_json(state, ExitCode::kWeights);
    const Json* total = json.find("total_steps");
    if (total && total->is_integer() && step >= total->as_integer()) return StageEnd{folder, step};
    return std::nullopt;
  }
  return std::nullopt;
}

std::string evaluation_folder(const std::string& run, const std::string& stage, const StageEnd& end) {
  return run + "/eval/" + stage + "_step_" + std::to_string(end.step);
}

bool evaluated(const std::string& run, const Json& config) {
  const auto stages = stage_names(config);
  const auto end = stages.empty() ? std::nullopt : finished_stage(run, stages.back());
  if (!end) return false;
  const std::string manifest = io::sha256(io::read_file(end->folder + "/manifest.json", ExitCode::kWeights));
  for (const auto& task : task_names(config)) {
    const std::string path = evaluation_folder(run, stages.back(), *end) + "/" + task + "/results.json";
    if (!fs::exists(path)) return false;
    const Json results = io::read_json(path, ExitCode::kData);
    const Json* provenance = results.find("provenance");
    const Json* checkpoint = provenance ? provenance->find("checkpoint_sha256") : nullptr;
    const Json* eval = provenance ? provenance->find("eval") : nullptr;
    if (!checkpoint || checkpoint->as_string() != manifest) return false;
    if (!eval || eval->to_string() != config.find("eval")->to_string()) return false;
  }
  return true;
}

void link_stage(const std::string& from_run, const std::string& to_run, const std::string& stage) {
  const fs::path to = fs::path(to_run) / stage, unfinished = fs::path(to_run) / (stage + ".linking");
  if (fs::exists(to)) return;
  try {
    link_parts(fs::path(from_run) / kParts, fs::path(to_run) / kParts);
    fs::remove_all(unfinished);
    link_tree(fs::path(from_run) / stage, unfinished);
    fs::rename(unfinished, to);
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::kIo, to.string(), "expected to link a finished stage here, got: " + error.code().message());
  }
}

}  // namespace vlmamba::study
