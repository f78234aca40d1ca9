#include "vlmamba/train/stage_checkpoints.h"

#include "vlmamba/io/config.h"
#include "vlmamba/io/json.h"
#include "vlmamba/model/weights.h"

namespace vlmamba {
namespace {

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
  json.set("samples", io::write_config(state.samples));
  return json;
}

TrainState read_state(const std::string& path) {
  const Json json = io::read_json(path, ExitCode::kWeights);
  const auto number = [&](const char* key) {
    return io::require(json, key, Json::Kind::kInteger, path, ExitCode::kWeights).as_integer();
  };
  const Json& samples = io::require(json, "samples", Json::Kind::kObject, path, ExitCode::kWeights);
  return {number("step"), number("tokens"), number("images"), io::from_json<SampleCounts>(samples, path)};
}

}  // namespace

void StageCheckpoints::write(const VlMamba& model, const Optimizer& optimizer, const TrainState& state,
                             int64_t keep_last) const {
  std::map<std::string, std::function<std::string()>> files;
  files[kWeights] = [&] { return tensors_to_safetensors(named_parameters(model)); };
  files[kOptimizer] = [&] { return tensors_to_safetensors(optimizer.state()); };
  files[kState] = [&] { return state_json(state, stage_, total_steps_).to_string(2); };
  for (const auto& [name, bytes] : companions_) files[name] = [&bytes] { return bytes; };
  folder_.write(state.step, files, keep_last);
}

TrainState StageCheckpoints::read(int64_t step, VlMamba& model, Optimizer& optimizer) const {
  const std::string folder = folder_.step_path(step) + "/";
  const TrainState state = read_state(folder + kState);
  load_weights(model, folder + kWeights);
  optimizer.load_state(io::WeightFiles(folder + kOptimizer));
  optimizer.set_steps_done(state.step);
  return state;
}

}  // namespace vlmamba
