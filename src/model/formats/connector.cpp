#include "vlmamba/core/error.h"
#include "vlmamba/model/formats/foreign.h"

namespace vlmamba::formats {

NameMap connector_names(const ConnectorConfig& config) {
  if (config.kind != "mlp") return {};
  return [](const std::string& stored) -> std::optional<std::string> {
    std::string name = stored;
    for (const std::string_view prefix : {"model.", "mm_projector."})
      if (name.starts_with(prefix)) name.erase(0, prefix.size());
    if (name.starts_with("0.")) return "fc1." + name.substr(2);
    if (name.starts_with("2.")) return "fc2." + name.substr(2);
    return name;
  };
}

NamedTensors as_llava_connector(const Connector& connector, const ConnectorConfig& config) {
  if (config.kind != "mlp")
    throw Error(ExitCode::kWeights, "connector", "expected an mlp, the one that LLaVA knows, got " + config.kind);
  NamedTensors tensors;
  for (auto [name, tensor] : named_parameters(connector))
    tensors.emplace_back("model.mm_projector." + std::string(name.starts_with("fc1.") ? "0." : "2.") + name.substr(4),
                         tensor);
  return tensors;
}

}  // namespace vlmamba::formats
