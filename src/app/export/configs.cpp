// One model, described in the words of another program.

#include "src/app/export/export.h"

namespace vlmamba::app {
namespace {

using io::Json;

int64_t integer(const Json& json, const char* key, int64_t otherwise) {
  const Json* value = json.find(key);
  return value && value->is_integer() ? value->as_integer() : otherwise;
}

bool flag(const Json& json, const char* key, bool otherwise) {
  const Json* value = json.find(key);
  return value && value->is_bool() ? value->as_bool() : otherwise;
}

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

Json mamba2_json(const LanguageModelConfig& c) {
  constexpr double kUnlimited = 3e38;  // JSON has no infinity
  Json json = described("mamba2", "Mamba2ForCausalLM"), limits = Json::array();
  set_mamba_sizes(json, c);
  json.set("head_dim", c.mamba2.head_dim);
  json.set("num_heads", c.expand * c.hidden_size / c.mamba2.head_dim);
  json.set("n_groups", c.mamba2.num_groups);
  limits.push(c.mamba2.dt_min);
  limits.push(c.mamba2.dt_max.value_or(kUnlimited));
  if (c.mamba2.dt_min > 0 || c.mamba2.dt_max) json.set("time_step_limit", std::move(limits));
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

Json official_to_hf(const Json& official, int64_t rows, const std::string& where) {
  const Json none = Json::object();
  const Json* given = official.find("ssm_cfg");
  const Json& ssm = given && given->is_object() ? *given : none;
  const Json *layer = ssm.find("layer"), *attention = official.find("attn_layer_idx");
  if (layer && layer->is_string() && layer->as_string() != "Mamba1")
    throw Error(ExitCode::kWeights, where, "ssm_cfg.layer: expected Mamba1, got " + layer->as_string());
  if (!flag(official, "rms_norm", true) || integer(official, "d_intermediate", 0) != 0 ||
      (attention && !attention->items().empty()))
    throw Error(ExitCode::kWeights, where, "expected RMSNorm and Mamba layers alone, got another architecture");
  const auto& require = io::require;
  const auto size = [&](const char* key) {
    return require(official, key, Json::Kind::kInteger, where, ExitCode::kWeights).as_integer();
  };
  LanguageModelConfig model;
  model.vocab_size = rows;
  model.pad_vocab_multiple = 1;
  model.hidden_size = size("d_model");
  model.num_layers = size("n_layer");
  model.d_state = integer(ssm, "d_state", 16);
  model.d_conv = integer(ssm, "d_conv", 4);
  model.expand = integer(ssm, "expand", 2);
  model.dt_rank = integer(ssm, "dt_rank", 0);
  model.projection_bias = flag(ssm, "bias", false);
  model.conv_bias = flag(ssm, "conv_bias", true);
  model.tie_embeddings = flag(official, "tie_embeddings", true);
  Json json = mamba_json(model);
  json.set("mamba_ssm_config", official);  // the way back
  return json;
}

Json hf_to_official(const Json& hf, const std::string& where) {
  const Json* type = hf.find("model_type");
  if (!type || !type->is_string() || type->as_string() != "mamba")
    throw Error(ExitCode::kWeights, where, "model_type: expected mamba, got " + (type ? type->to_string() : "none"));
  if (const Json* original = hf.find("mamba_ssm_config")) return *original;
  const int64_t hidden = integer(hf, "hidden_size", 768), rows = integer(hf, "vocab_size", 50280);
  const int64_t rank = integer(hf, "time_step_rank", (hidden + 15) / 16);
  Json ssm = Json::object();
  const auto differing = [&](const char* key, int64_t value, int64_t usual) {
    if (value != usual) ssm.set(key, value);
  };
  differing("d_state", integer(hf, "state_size", 16), 16);
  differing("d_conv", integer(hf, "conv_kernel", 4), 4);
  differing("expand", integer(hf, "expand", 2), 2);
  differing("dt_rank", rank, (hidden + 15) / 16);
  if (flag(hf, "use_bias", false)) ssm.set("bias", true);
  if (!flag(hf, "use_conv_bias", true)) ssm.set("conv_bias", false);
  Json json = Json::object();
  json.set("d_model", hidden);
  json.set("n_layer", integer(hf, "num_hidden_layers", 32));
  json.set("vocab_size", rows);
  json.set("ssm_cfg", std::move(ssm));
  json.set("rms_norm", true);
  json.set("residual_in_fp32", true);
  json.set("fused_add_norm", true);
  json.set("pad_vocab_size_multiple", rows % 8 == 0 ? 8 : 1);
  json.set("tie_embeddings", flag(hf, "tie_word_embeddings", true));
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
