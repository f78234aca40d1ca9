#include "vlmamba/train/stage_checkpoints.h"

#include <filesystem>

#include "vlmamba/core/log.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/json.h"
#include "vlmamba/model/weights.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "state.json";

Json state_json(const TrainState& state, const std::string& stage, int64_t total_steps) {
  Json json = Json::object();
  json.set("stage", stage);
  json.set("step", state.step);
  json.set("total_steps", total_steps);
  json.set("tokens", state.tokens);
  json.set("images", state.images);
  if (state.validation_loss) json.set("validation_loss", *state.validation_loss);
  json.set("samples", io::write_config(state.samples));
  Json& losses = json.set("recent_losses", Json::array());
  for (const double loss : state.recent_losses) losses.push(loss);
  return json;
}

TrainState read_state(const std::string& path) {
  const Json json = io::read_json(path, ExitCode::kWeights);
  const auto member = [&](const char* key, Json::Kind kind) -> const Json& {
    return io::require(json, key, kind, path, ExitCode::kWeights);
  };
  const auto count = [&](const char* key) {
    const int64_t number = member(key, Json::Kind::kInteger).as_integer();
    if (number >= 0) return number;
    throw Error(ExitCode::kWeights, path, std::string(key) + ": expected 0 or more, got " + std::to_string(number));
  };
  TrainState state{count("step"),
                   count("tokens"),
                   count("images"),
                   io::from_json<SampleCounts>(member("samples", Json::Kind::kObject), path),
                   {},
                   {}};
  if (const Json* loss = json.find("validation_loss"); loss && loss->is_number())
    state.validation_loss = loss->as_number();
  if (!json.find("recent_losses")) return state;
  for (const Json& loss : member("recent_losses", Json::Kind::kArray).items()) {
    if (!loss.is_number()) throw Error(ExitCode::kWeights, path, "recent_losses: expected numbers");
    state.recent_losses.push_back(loss.as_number());
  }
  return state;
}

}  // namespace

std::optional<int64_t> newest_whole(const io::CheckpointFolder& checkpoints) {
  const auto check = [&](int64_t step) {
    const std::string path = checkpoints.step_path(step) + "/" + kState;
    if (const TrainState state = read_state(path); state.step != step)
      throw Error(ExitCode::kWeights, path, "step: expected that of its folder, got " + std::to_string(state.step));
  };
  return checkpoints.newest([](const std::string& why) { log::warn("passing over a damaged checkpoint: " + why); },
                            check);
}

StageCheckpoints::StageCheckpoints(const std::string& folder, std::string stage, int64_t total_steps,
                                   std::map<std::string, std::string> companions)
    : folder_(folder + "/checkpoints"),
      parts_((fs::path(folder).parent_path() / "parts").string()),
      stage_(std::move(stage)),
      total_steps_(total_steps),
      companions_(std::move(companions)) {}

io::SharedFile StageCheckpoints::shared(const std::string& part, const io::Content& weights) {
  const auto known = frozen_.find(part);
  std::error_code failed;
  if (known != frozen_.end() && fs::file_size(known->second.path, failed) == known->second.bytes) return known->second;
  return frozen_[part] = parts_.put(part, weights);
}

io::CheckpointContent StageCheckpoints::content(const VlMamba& model, const Optimizer& optimizer,
                                                const TrainState& state) {
  io::CheckpointContent content;
  NamedTensors trained;
  for (const auto& child : model.named_children()) {
    NamedTensors frozen;
    for (const auto& parameter : child.value()->named_parameters())
      (parameter.value().requires_grad() ? trained : frozen)
          .emplace_back(child.key() + "." + parameter.key(), parameter.value());
    if (!frozen.empty()) content.references[child.key()] = shared(child.key(), safetensors_content(frozen));
  }
  content.files[kWeights] = safetensors_content(trained);
  content.files[kOptimizer] = safetensors_content(optimizer.state());
  content.files[kState] = io::content_of(state_json(state, stage_, total_steps_).to_string(2) + "\n");
  for (const auto& [name, bytes] : companions_) content.files[name] = io::content_of(bytes);
  return content;
}

uint64_t StageCheckpoints::write(const VlMamba& model, const Optimizer& optimizer, const TrainState& state,
                                 const CheckpointConfig& keep) {
  const io::CheckpointContent written = content(model, optimizer, state);
  folder_.write(state.step, written);
  folder_.retain(keep.keep_last, keep.keep_best == KeepBest::kValidationLoss ? best() : std::nullopt);
  return written.bytes();
}

TrainState StageCheckpoints::read(int64_t step, VlMamba& model, Optimizer& optimizer) const {
  const std::string folder = folder_.step_path(step);
  const TrainState state = read_state(folder + "/" + kState);
  load_weights(model, folder);
  optimizer.load_state(io::WeightFiles(folder + "/" + kOptimizer));
  optimizer.set_steps_done(state.step);
  return state;
}

std::optional<int64_t> StageCheckpoints::best() const {
  std::optional<int64_t> best;
  double least = 0;
  for (const int64_t step : folder_.steps()) {
    std::optional<double> loss;
    try {
      loss = read_state(folder_.step_path(step) + "/" + kState).validation_loss;
    } catch (const Error&) {
      continue;  // damaged: no candidate
    }
    if (loss && (!best || *loss < least)) {
      best = step;
      least = *loss;
    }
  }
  return best;
}

}  // namespace vlmamba
