#include "src/app/export/lora.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/model/weights.h"

namespace vlmamba::app {
namespace {

constexpr std::string_view kA = ".lora_A", kB = ".lora_B", kWeight = ".weight";

// alpha / r of each part, in the stage that the checkpoint is of.
std::map<std::string, double> scales(const RunConfig& run, const io::Json& state) {
  const std::string name =
      io::require(state, "stage", io::Json::Kind::kString, "state.json", ExitCode::kWeights).as_string();
  std::map<std::string, double> found;
  for (const auto& stage : run.stages)
    for (const auto& [part, how] : stage.trainable.parts)
      if (stage.name == name && how.lora) found[part] = how.lora->alpha / static_cast<double>(how.lora->r);
  return found;
}

}  // namespace

void write_with_lora_merged(const io::WeightFiles& files, const RunConfig& config, const io::Json& state,
                            const std::string& path) {
  const auto scale = scales(config, state);
  NamedTensors merged;
  for (const auto& tensor : files.tensors()) {
    if (tensor.name.ends_with(kA) || tensor.name.ends_with(kB)) continue;
    at::Tensor value = read_tensor(tensor);
    const std::string layer = tensor.name.substr(0, tensor.name.size() - std::min(tensor.name.size(), kWeight.size()));
    const auto* a = files.find(layer + std::string(kA));
    const auto* b = files.find(layer + std::string(kB));
    if (tensor.name.ends_with(kWeight) && a && b) {
      const auto of_part = scale.find(layer.substr(0, layer.find('.')));
      if (of_part == scale.end())
        throw Error(ExitCode::kWeights, files.path() + ": " + a->name,
                    "expected a stage in config.json whose trainable says lora for it, got none");
      value =
          (value.to(at::kFloat) + read_tensor(*b).matmul(read_tensor(*a)) * of_part->second).to(value.scalar_type());
    }
    merged.emplace_back(tensor.name, value);
  }
  io::write_file_atomically(path, tensors_to_safetensors(merged));
}

}  // namespace vlmamba::app
