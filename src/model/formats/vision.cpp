#include <array>

#include "src/model/formats/config_values.h"
#include "vlmamba/model/formats/foreign.h"

namespace vlmamba::formats {
namespace {

constexpr std::string_view kLayers = "encoder.layers.";
constexpr int64_t kMaxSide = 65536;  // pixels

bool begins_with_any(std::string_view name, std::initializer_list<std::string_view> prefixes) {
  for (const auto prefix : prefixes)
    if (name.starts_with(prefix)) return true;
  return false;
}

}  // namespace

nn::Activation activation_named(ConfigValues& values, const char* key, const std::string& fallback) {
  std::string name = values.text(key, fallback), known;
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kOtherNames{
      {{"swish", "silu"}, {"gelu_fast", "gelu_new"}, {"gelu_python", "gelu"}}};
  for (const auto& [other, usual] : kOtherNames)
    if (name == other) name = usual;
  for (const auto& entry : enum_names(nn::Activation{})) {
    if (entry.name == name) return entry.value;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  values.refuse(key, "one of " + known, "\"" + name + "\"");
  return nn::Activation::kGelu;
}

// The defaults are those of CLIPVisionConfig and SiglipVisionConfig.
VisionEncoderConfig vision_config(ConfigValues& values, VisionKind kind) {
  const bool clip = kind == VisionKind::kClip;
  VisionEncoderConfig config;
  config.kind = kind;
  config.image_size = values.integer("image_size", 224, kMaxSide);
  config.patch_size = values.integer("patch_size", clip ? 32 : 16, kMaxSide);
  config.hidden_size = values.integer("hidden_size", 768);
  config.intermediate_size = values.integer("intermediate_size", 3072);
  config.num_layers = values.integer("num_hidden_layers", 12, kMaxLayers);
  config.num_heads = values.integer("num_attention_heads", 12);
  config.activation = activation_named(values, "hidden_act", clip ? "quick_gelu" : "gelu_pytorch_tanh");
  config.norm_eps = values.number("layer_norm_eps", clip ? 1e-5 : 1e-6);
  if (const int64_t channels = values.integer("num_channels", 3); channels != 3)
    values.refuse("num_channels", "3", std::to_string(channels));
  for (const auto& [key, value] :
       std::array<std::pair<const char*, int64_t>, 5>{{{"image_size", config.image_size},
                                                       {"patch_size", config.patch_size},
                                                       {"hidden_size", config.hidden_size},
                                                       {"num_hidden_layers", config.num_layers},
                                                       {"num_attention_heads", config.num_heads}}})
    if (value < 1) values.refuse(key, "at least 1", std::to_string(value));
  return config;
}

NameMap vision_names(const VisionEncoderConfig& config) {
  const int64_t used = config.used_layers();
  return [used](const std::string& stored) -> std::optional<std::string> {
    if (begins_with_any(stored, {"text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias"}))
      return std::nullopt;
    std::string name = stored.starts_with("vision_model.") ? stored.substr(13) : stored;
    if (begins_with_any(name, {"post_layernorm.", "head."}) || name == "embeddings.position_ids") return std::nullopt;
    if (name.starts_with(kLayers)) {  // blocks behind the features do not run
      const auto digits = name.substr(kLayers.size(), name.find('.', kLayers.size()) - kLayers.size());
      const bool number =
          !digits.empty() && digits.size() < 6 && digits.find_first_not_of("0123456789") == std::string::npos;
      if (number && std::stoll(digits) >= used) return std::nullopt;
    }
    return name;
  };
}

}  // namespace vlmamba::formats
