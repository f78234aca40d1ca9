#include "src/app/predecessor.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "vlmamba/app/build.h"
#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/config_difference.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string>& all_parts() {
  static const std::vector<std::string> all{"vision_encoder", "connector", "language_model"};
  return all;
}

// What a part's weights mean something with: a connector joins this encoder's features to this language model.
bool depends(const std::string& part, const std::string& section) {
  if (part == "vision_encoder") return section == "vision_encoder" || section == "image_processor";
  if (part == "language_model") return section == "language_model" || section == "prompt" || section == "tokenizer";
  return true;
}

bool is_needed(const std::vector<std::string>& parts, const std::string& section) {
  return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) { return depends(part, section); });
}

io::Json compared(const RunConfig& config, const std::vector<std::string>& parts) {
  io::Json json = io::Json::object(), model = io::Json::object();
  const io::Json sections = io::write_config(config.model);
  for (const auto& [part, section] : sections.members()) {
    if (!is_needed(parts, part)) continue;
    io::Json kept = section;
    kept.set("pretrained", "");
    model.set(part, std::move(kept));
  }
  json.set("model", std::move(model));
  if (is_needed(parts, "image_processor")) json.set("image_processor", io::write_config(config.image_processor));
  if (is_needed(parts, "prompt")) json.set("prompt", io::write_config(config.prompt));
  return json;
}

std::vector<std::string> prefixes_of(const std::vector<std::string>& parts) {
  std::vector<std::string> prefixes;
  for (const auto& part : parts) prefixes.push_back(part + ".");
  return prefixes;
}

bool begins_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& each) { return name.starts_with(each); });
}

// How the stage trained that a checkpoint is of.
Trainable trainable_of(const CheckpointPlace& place) {
  for (const auto& stage : read_saved_config(place.folder + "/config.json").stages)
    if (stage.name == place.stage) return stage.trainable;
  throw Error(ExitCode::kWeights, place.folder, "expected stage " + place.stage + " in config.json, got none");
}

// A stored name as it is called here: the longest prefix of `names` that fits is replaced.
std::string renamed(const std::string& stored, const std::map<std::string, std::string>& names) {
  const std::pair<const std::string, std::string>* best = nullptr;
  for (const auto& entry : names)
    if (stored.starts_with(entry.first) && (!best || entry.first.size() > best->first.size())) best = &entry;
  return best ? best->second + stored.substr(best->first.size()) : stored;
}

}  // namespace

void check_predecessor(const RunConfig& config, const Tokenizer& tokenizer, const std::string& checkpoint,
                       const std::vector<std::string>& wanted) {
  const auto& parts = wanted.empty() ? all_parts() : wanted;
  const RunConfig theirs = read_saved_config(checkpoint + "/config.json");
  std::string lines;
  for (const auto& difference : io::config_differences(compared(theirs, parts), compared(config, parts)))
    lines += "\n    " + difference.to_string();
  const std::string path = checkpoint + "/tokenizer.json";
  if (is_needed(parts, "tokenizer") && io::read_file(path, ExitCode::kWeights) != tokenizer.json_text())
    lines += "\n    tokenizer: " + path + " -> " + config.tokenizer + ", whose content differs";
  if (!lines.empty())
    throw Error(ExitCode::kUsage, checkpoint,
                "expected a checkpoint of the same model, prompt and pictures to go on from, got another one (there -> "
                "here):" +
                    lines);
}

void load_predecessor(VlMamba& model, const RunConfig& config, const Tokenizer& tokenizer, const InitFromConfig& init) {
  const auto& parts = init.parts.empty() ? all_parts() : init.parts;
  std::string place = init.checkpoint;
  if (fs::exists(fs::path(place) / "config.json")) {
    const CheckpointPlace found = find_checkpoint(place);
    place = found.folder;
    check_predecessor(config, tokenizer, place, parts);
    if (has_lora(io::WeightFiles(place))) set_trainable(model, trainable_of(found), /*seed=*/0);
  }
  const auto prefixes = prefixes_of(parts), any = prefixes_of(all_parts());
  const io::WeightFiles files(place);
  std::set<std::string> stored;
  for (const auto& tensor : files.tensors()) stored.insert(renamed(tensor.name, init.names));
  NamedTensors loaded;
  std::vector<std::string> fresh;
  for (const auto& [name, tensor] : named_parameters(model)) {
    if (!begins_with_any(name, prefixes)) continue;
    if (!stored.contains(name) && begins_with_any(name, init.fresh))
      fresh.push_back(name);
    else
      loaded.emplace_back(name, tensor);
  }
  copy_weights(loaded, files, [&](const std::string& name) -> std::optional<std::string> {
    std::string ours = renamed(name, init.names);
    if (!begins_with_any(ours, prefixes) && begins_with_any(ours, any)) return std::nullopt;  // of another part
    return ours;
  });
  merge_lora(model);
  log::info("from " + place + ": " + std::to_string(loaded.size()) + " tensors loaded, 0 missing, " +
            std::to_string(fresh.size()) + " fresh" + (fresh.empty() ? "" : ", as wanted:"));
  for (const auto& name : fresh) log::info("  fresh " + name);
}

}  // namespace vlmamba::app
