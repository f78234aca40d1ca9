#include "src/app/continuation.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/config_difference.h"
#include "vlmamba/train/stage_checkpoints.h"

namespace vlmamba::app {
namespace {

// Keys that may change at any time, with what is below them. `*` is any one name.
constexpr std::array<std::string_view, 22> kFree{
    "output_dir",
    "data_root",
    "weights_root",
    "tokenizer",  // its content is compared with the checkpoint's
    "eval",
    "device",
    "distributed",
    "model.vision_encoder.pretrained",
    "model.connector.pretrained",
    "model.language_model.pretrained",
    "stages.*.data.sets.*.records",
    "stages.*.data.sets.*.image_root",
    "stages.*.data.sets.*.expected_records",
    "stages.*.batch.loader_threads",
    "stages.*.batch.micro_batch",
    "stages.*.checkpoint",
    "stages.*.loss_spike",
    "stages.*.validate_every",
    "stages.*.log_every",
    "stages.*.recompute_every",
    "stages.*.peak_tflops",
    "stages.*.profile",
};

bool matches(std::string_view pattern, std::string_view key) {
  while (!pattern.empty()) {
    const auto wanted = pattern.substr(0, pattern.find('.')), name = key.substr(0, key.find('.'));
    if (wanted != "*" && wanted != name) return false;
    pattern.remove_prefix(std::min(pattern.size(), wanted.size() + 1));
    key.remove_prefix(std::min(key.size(), name.size() + 1));
  }
  return true;
}

bool is_free(const std::string& key) {
  return std::any_of(kFree.begin(), kFree.end(), [&](std::string_view pattern) { return matches(pattern, key); });
}

bool was_begun(const RunConfig& config, size_t stage) {
  return !io::CheckpointFolder(checkpoints_folder(config, stage)).steps().empty();
}

// The newest whole checkpoint of a stage; none where it was not begun.
std::optional<int64_t> newest(const RunConfig& config, size_t stage) {
  const auto step = newest_whole(io::CheckpointFolder(checkpoints_folder(config, stage)));
  if (!step && was_begun(config, stage))
    throw Error(ExitCode::kWeights, config.output_dir + "/" + config.stages[stage].name,
                "expected a whole checkpoint, got only damaged ones; bring one back, or remove them to train the stage "
                "anew");
  return step;
}

// The checkpoint that a fresh stage follows on.
std::string checkpoint_before(const RunConfig& config, size_t stage) {
  if (stage == 0) return "";
  if (const auto step = newest(config, stage - 1))
    return io::CheckpointFolder(checkpoints_folder(config, stage - 1)).step_path(*step);
  for (size_t earlier = 0; earlier + 1 < stage; ++earlier)
    if (was_begun(config, earlier))
      throw Error(ExitCode::kUsage, "--stage " + config.stages[stage].name,
                  "expected stage " + config.stages[stage - 1].name + " to be trained before it, got a run where " +
                      config.stages[earlier].name + " is the last");
  return "";
}

}  // namespace

std::string checkpoints_folder(const RunConfig& config, size_t stage) {
  return config.output_dir + "/" + config.stages[stage].name + "/checkpoints";
}

StartingPoint find_start(const RunConfig& config, const std::vector<size_t>& chosen) {
  for (size_t i = chosen.size(); i-- > 0;)
    if (const auto step = newest(config, chosen[i]))
      return {chosen[i], step, io::CheckpointFolder(checkpoints_folder(config, chosen[i])).step_path(*step)};
  return {chosen.front(), {}, checkpoint_before(config, chosen.front())};
}

std::vector<std::string> check_changes(const RunConfig& before, const RunConfig& after) {
  std::set<std::string> begun;  // prefixes of keys
  for (size_t i = 0; i < before.stages.size(); ++i)
    if (was_begun(before, i)) begun.insert("stages." + before.stages[i].name);
  const auto stage_of = [](const std::string& key) {
    return key.substr(0, key.find('.', std::string_view("stages.").size()));
  };
  std::vector<std::string> allowed;
  std::string refused;
  for (const auto& difference : io::config_differences(io::write_config(before), io::write_config(after))) {
    const bool of_stage = difference.key.starts_with("stages.");
    if (is_free(difference.key) || (of_stage && !begun.contains(stage_of(difference.key))))
      allowed.push_back(difference.to_string());
    else
      refused += "\n    " + difference.to_string();
  }
  if (!refused.empty())
    throw Error(ExitCode::kUsage, before.output_dir,
                "expected the config that the run was trained with, got changes that it cannot go on with:" + refused +
                    "\n  leave them out, or begin another run; to train a finished model further, add a stage behind "
                    "the last one");
  return allowed;
}

}  // namespace vlmamba::app
