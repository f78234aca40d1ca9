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

struct MambaSizes {
  int64_t rows, hidden, layers, state, taps, expand, rank;
  bool bias, conv_bias, tied;
  double eps;
};

Json hf_json(const MambaSizes& sizes) {
  Json json = Json::object(), classes = Json::array();
  classes.push("MambaForCausalLM");
  json.set("architectures", std::move(classes));
  json.set("model_type", "mamba");
  json.set("vocab_size", sizes.rows);
  json.set("hidden_size", sizes.hidden);
  json.set("intermediate_size", sizes.expand * sizes.hidden);
  json.set("num_hidden_layers", sizes.layers);
  json.set("state_size", sizes.state);
  json.set("conv_kernel", sizes.taps);
  json.set("expand", sizes.expand);
  json.set("time_step_rank", sizes.rank > 0 ? sizes.rank : (sizes.hidden + 15) / 16);
  json.set("use_bias", sizes.bias);
  json.set("use_conv_bias", sizes.conv_bias);
  json.set("layer_norm_epsilon", sizes.eps);
  json.set("hidden_act", "silu");
  json.set("residual_in_fp32", true);
  json.set("tie_word_embeddings", sizes.tied);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) json.set(key, 0);
  return json;
}

Json numbers(const Json& config, const char* key) {
  const Json* value = config.find(key);
  return value ? *value : Json::array();
}

}  // namespace

Json mamba_config(const Json& model, const std::string& where) {
  const Json* kind = model.find("kind");
  if (kind && kind->is_string() && kind->as_string() != "mamba")
    throw Error(ExitCode::kWeights, where, "model.language_model.kind: expected mamba, got " + kind->as_string());
  const int64_t vocab = integer(model, "vocab_size", 0), multiple = integer(model, "pad_vocab_multiple", 8);
  const Json* eps = model.find("norm_eps");
  return hf_json({(vocab + multiple - 1) / multiple * multiple, integer(model, "hidden_size", 0),
                  integer(model, "num_layers", 0), integer(model, "d_state", 16), integer(model, "d_conv", 4),
                  integer(model, "expand", 2), integer(model, "dt_rank", 0), flag(model, "projection_bias", false),
                  flag(model, "conv_bias", true), flag(model, "tie_embeddings", true),
                  eps && eps->is_number() ? eps->as_number() : 1e-5});
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
  Json json = hf_json({rows, size("d_model"), size("n_layer"), integer(ssm, "d_state", 16), integer(ssm, "d_conv", 4),
                       integer(ssm, "expand", 2), integer(ssm, "dt_rank", 0), flag(ssm, "bias", false),
                       flag(ssm, "conv_bias", true), flag(official, "tie_embeddings", true), 1e-5});
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

Json preprocessor_config(const Json& config) {
  const Json* mode = config.find("mode");
  const std::string how = mode && mode->is_string() ? mode->as_string() : "squash";
  const bool squash = how == "squash";
  const int64_t size = integer(config, "size", 384), resize = integer(config, "resize", 0);
  const auto square = [](int64_t side) {
    Json both = Json::object();
    both.set("height", side);
    both.set("width", side);
    return both;
  };
  Json shorter = Json::object(), json = Json::object();
  shorter.set("shortest_edge", resize > 0 ? resize : size);
  json.set("image_processor_type", squash ? "SiglipImageProcessor" : "CLIPImageProcessor");
  json.set("do_convert_rgb", true);
  json.set("do_resize", true);
  json.set("size", squash ? square(size) : std::move(shorter));
  json.set("resample", 3);
  json.set("do_center_crop", !squash);
  if (!squash) json.set("crop_size", square(size));
  json.set("do_rescale", true);
  json.set("rescale_factor", 1.0 / 255);
  json.set("do_normalize", true);
  json.set("image_mean", numbers(config, "mean"));
  json.set("image_std", numbers(config, "std"));
  if (how == "pad") json.set("image_aspect_ratio", "pad");  // LLaVA's word: to a square on the mean, before all this
  return json;
}

}  // namespace vlmamba::app
