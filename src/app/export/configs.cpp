// One model, described in the words of another program.

#include "src/app/export/export.h"

namespace vlmamba::app {
namespace {

using io::Json;

void set_ids(Json& json) {
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) json.set(key, 0);
}

Json described(const char* model_type, const char* architecture) {
  Json json = Json::object(), classes = Json::array();
  classes.push(architecture);
  json.set("architectures", std::move(classes));
  json.set("model_type", model_type);
  return json;
}

// What MambaConfig and Mamba2Config share.
void set_mamba_sizes(Json& json, const LanguageModelConfig& c) {
  json.set("vocab_size", c.embedding_rows());
  json.set("hidden_size", c.hidden_size);
  json.set("num_hidden_layers", c.num_layers);
  json.set("state_size", c.d_state);
  json.set("conv_kernel", c.d_conv);
  json.set("expand", c.expand);
  json.set("use_bias", c.projection_bias);
  json.set("use_conv_bias", c.conv_bias);
  json.set("layer_norm_epsilon", c.norm_eps);
  json.set("hidden_act", "silu");
  json.set("residual_in_fp32", true);
  json.set("tie_word_embeddings", c.tie_embeddings);
  set_ids(json);
}

Json mamba_json(const LanguageModelConfig& c) {
  Json json = described("mamba", "MambaForCausalLM");
  set_mamba_sizes(json, c);
  json.set("intermediate_size", c.expand * c.hidden_size);
  json.set("time_step_rank", c.dt_rank > 0 ? c.dt_rank : (c.hidden_size + 15) / 16);
  return json;
}

Json dt_limits(const Mamba2Config& config) {
  constexpr double kUnlimited = 3e38;  // JSON has no infinity
  Json limits = Json::array();
  limits.push(config.dt_min);
  limits.push(config.dt_max.value_or(kUnlimited));
  return limits;
}

Json mamba2_json(const LanguageModelConfig& c) {
  Json json = described("mamba2", "Mamba2ForCausalLM");
  set_mamba_sizes(json, c);
  json.set("head_dim", c.mamba2.head_dim);
  json.set("num_heads", c.expand * c.hidden_size / c.mamba2.head_dim);
  json.set("n_groups", c.mamba2.num_groups);
  if (c.mamba2.dt_min > 0 || c.mamba2.dt_max) json.set("time_step_limit", dt_limits(c.mamba2));
  return json;
}

Json gpt_neox_json(const LanguageModelConfig& c) {
  const GptNeoxConfig& neox = c.gpt_neox;
  Json json = described("gpt_neox", "GPTNeoXForCausalLM"), rope = Json::object();
  json.set("vocab_size", c.embedding_rows());
  json.set("hidden_size", c.hidden_size);
  json.set("num_hidden_layers", c.num_layers);
  json.set("num_attention_heads", neox.num_heads);
  json.set("intermediate_size", neox.intermediate_size);
  json.set("hidden_act", std::string(enum_name(neox.activation)));
  json.set("use_parallel_residual", neox.parallel_residual);
  json.set("attention_bias", neox.attention_bias);
  json.set("layer_norm_eps", c.norm_eps);
  json.set("tie_word_embeddings", c.tie_embeddings);
  rope.set("rope_type", "default");
  rope.set("rope_theta", neox.rotary_base);
  rope.set("partial_rotary_factor", neox.rotary_fraction);
  json.set("rope_parameters", std::move(rope));
  json.set("rotary_emb_base", neox.rotary_base);  // transformers 4's names of the same
  json.set("rotary_pct", neox.rotary_fraction);
  set_ids(json);
  return json;
}

}  // namespace

Json language_config(const LanguageModelConfig& config) {
  switch (config.kind) {
    case LanguageKind::kMamba:
      return mamba_json(config);
    case LanguageKind::kMamba2:
      return mamba2_json(config);
    case LanguageKind::kGptNeox:
      return gpt_neox_json(config);
  }
  return {};
}

Json vision_config(const VisionEncoderConfig& config) {
  const bool clip = config.kind == VisionKind::kClip;
  Json json =
      clip ? described("clip_vision_model", "CLIPVisionModel") : described("siglip_vision_model", "SiglipVisionModel");
  json.set("image_size", config.image_size);
  json.set("patch_size", config.patch_size);
  json.set("hidden_size", config.hidden_size);
  json.set("intermediate_size", config.intermediate_size);
  json.set("num_hidden_layers", config.used_layers());  // those in front of the features, the ones that are there
  json.set("num_attention_heads", config.num_heads);
  json.set("hidden_act", std::string(enum_name(config.used_activation())));
  json.set("layer_norm_eps", config.used_eps());
  return json;
}

Json end_token_ids(const std::vector<int64_t>& ids) {
  if (ids.empty()) return {};
  if (ids.size() == 1) return ids.front();
  Json all = Json::array();
  for (const int64_t id : ids) all.push(id);
  return all;
}

Json official_config(const LanguageModelConfig& config) {
  const bool second = config.kind == LanguageKind::kMamba2;
  const int64_t rows = config.embedding_rows();
  Json ssm = Json::object(), json = Json::object();
  const auto differing = [&](const char* key, int64_t value, int64_t usual) {
    if (value != usual) ssm.set(key, value);
  };
  if (second) ssm.set("layer", "Mamba2");
  differing("d_state", config.d_state, second ? 128 : 16);
  differing("d_conv", config.d_conv, 4);
  differing("expand", config.expand, 2);
  if (config.projection_bias) ssm.set("bias", true);
  if (!config.conv_bias) ssm.set("conv_bias", false);
  if (second) {
    differing("headdim", config.mamba2.head_dim, 64);
    differing("ngroups", config.mamba2.num_groups, 1);
    if (config.mamba2.dt_min > 0 || config.mamba2.dt_max) ssm.set("dt_limit", dt_limits(config.mamba2));
  } else if (config.dt_rank > 0) {
    differing("dt_rank", config.dt_rank, (config.hidden_size + 15) / 16);
  }
  json.set("d_model", config.hidden_size);
  json.set("n_layer", config.num_layers);
  json.set("vocab_size", config.vocab_size);
  json.set("ssm_cfg", std::move(ssm));
  json.set("rms_norm", true);
  json.set("residual_in_fp32", true);
  json.set("fused_add_norm", true);
  json.set("pad_vocab_size_multiple", config.vocab_size == rows && rows % 8 == 0 ? 8 : config.pad_vocab_multiple);
  json.set("tie_embeddings", config.tie_embeddings);
  return json;
}

Json preprocessor_config(const ImageProcessorConfig& config) {
  const bool squash = config.mode == ImageMode::kSquash;
  const auto square = [](int64_t side) {
    Json both = Json::object();
    both.set("height", side);
    both.set("width", side);
    return both;
  };
  const auto numbers = [](const std::array<double, 3>& values) {
    Json json = Json::array();
    for (const double value : values) json.push(value);
    return json;
  };
  Json shorter = Json::object(), json = Json::object();
  shorter.set("shortest_edge", config.resize > 0 ? config.resize : config.size);
  json.set("image_processor_type", squash ? "SiglipImageProcessor" : "CLIPImageProcessor");
  json.set("do_convert_rgb", true);
  json.set("do_resize", true);
  json.set("size", squash ? square(config.size) : std::move(shorter));
  json.set("resample", 3);
  json.set("do_center_crop", !squash);
  if (!squash) json.set("crop_size", square(config.size));
  json.set("do_rescale", true);
  json.set("rescale_factor", 1.0 / 255);
  json.set("do_normalize", true);
  json.set("image_mean", numbers(config.mean));
  json.set("image_std", numbers(config.std));
  if (config.mode == ImageMode::kPad)
    json.set("image_aspect_ratio", "pad");  // LLaVA's word: to a square on the mean, before all this
  return json;
}

}  // namespace vlmamba::app
