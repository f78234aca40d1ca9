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

std::string llava_connector_name(const std::string& parameter) {
  return "model.mm_projector." + std::string(parameter.starts_with("fc1.") ? "0." : "2.") + parameter.substr(4);
}

}  // namespace vlmamba::formats
