#include <cmath>

#include "src/model/formats/config_values.h"
#include "vlmamba/model/formats/foreign.h"

namespace vlmamba::formats {
namespace {

void expect_at_least_one(ConfigValues& values, const char* key, int64_t value) {
  if (value < 1) values.refuse(key, "at least 1", std::to_string(value));
}

// A limit, or none: infinity as transformers 5 writes it ({"__float__": "Infinity"}), or what fp32 hardly reaches.
std::optional<double> limit(const io::Json& value) {
  constexpr double kUnlimited = 3e38;
  if (value.is_number() && value.as_number() < kUnlimited) return value.as_number();
  return std::nullopt;
}

// The rank of the step size's projection; "auto" or none: by the width.
int64_t read_rank(ConfigValues& values, const char* key) {
  const auto* rank = values.find(key);
  if (rank == nullptr || (rank->is_string() && rank->as_string() == "auto")) return 0;
  if (rank->is_string()) values.refuse(key, "\"auto\" or a number", rank->to_string());
  return rank->is_string() ? 0 : values.integer(key, 0);
}

void read_dt_limit(ConfigValues& values, const char* key, Mamba2Config& config) {
  const auto* limits = values.find(key);
  if (limits == nullptr) return;
  if (!limits->is_array() || limits->items().size() != 2 || !limits->items()[0].is_number() ||
      !(limits->items()[0].as_number() >= 0) || !(limits->items()[1].is_number() || limits->items()[1].is_object()))
    return values.refuse(key, "two numbers of at least 0", limits->to_string());
  config.dt_min = limits->items()[0].as_number();
  config.dt_max = limit(limits->items()[1]);
}

// What MambaConfig and Mamba2Config share.
LanguageModelConfig hf_sizes(ConfigValues& values, LanguageModelConfig config) {
  config.pad_vocab_multiple = 1;
  config.vocab_size = values.integer("vocab_size", config.vocab_size, kMaxIds);
  config.hidden_size = values.integer("hidden_size", config.hidden_size);
  config.num_layers = values.integer("num_hidden_layers", config.num_layers, kMaxLayers);
  config.d_state = values.integer("state_size", config.d_state);
  config.d_conv = values.integer("conv_kernel", 4, kMaxFactor);
  config.expand = values.integer("expand", 2, kMaxFactor);
  config.projection_bias = values.boolean("use_bias", false);
  config.conv_bias = values.boolean("use_conv_bias", true);
  config.norm_eps = values.number("layer_norm_epsilon", 1e-5);
  config.norm_rounding = nn::NormRounding::kBeforeWeight;
  config.tie_embeddings = values.boolean("tie_word_embeddings", config.tie_embeddings);
  const std::string activation = values.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") values.refuse("hidden_act", "silu", "\"" + activation + "\"");
  expect_at_least_one(values, "vocab_size", config.vocab_size);
  expect_at_least_one(values, "hidden_size", config.hidden_size);
  expect_at_least_one(values, "state_size", config.d_state);
  expect_at_least_one(values, "conv_kernel", config.d_conv);
  expect_at_least_one(values, "expand", config.expand);
  return config;
}

}  // namespace

LanguageModelConfig hf_mamba(ConfigValues& values) {
  LanguageModelConfig config;
  config.kind = LanguageKind::kMamba;
  config.vocab_size = 50280, config.hidden_size = 768, config.num_layers = 32, config.d_state = 16;
  config = hf_sizes(values, config);
  config.dt_rank = read_rank(values, "time_step_rank");
  const int64_t inner = values.integer("intermediate_size", config.expand * config.hidden_size, kMaxFactor * kMaxWidth);
  if (inner != config.expand * config.hidden_size)
    values.refuse("intermediate_size",
                  "expand * hidden_size (" + std::to_string(config.expand * config.hidden_size) + ")",
                  std::to_string(inner));
  return config;
}

LanguageModelConfig hf_mamba2(ConfigValues& values) {
  LanguageModelConfig config;
  config.kind = LanguageKind::kMamba2;
  config.vocab_size = 32768, config.hidden_size = 4096, config.num_layers = 64, config.d_state = 128;
  config.tie_embeddings = false;
  config = hf_sizes(values, config);
  config.mamba2.head_dim = values.integer("head_dim", 64);
  config.mamba2.num_groups = values.integer("n_groups", 8);
  config.mamba2.norm_groups = 1;
  read_dt_limit(values, "time_step_limit", config.mamba2);
  const int64_t heads = values.integer("num_heads", 128);
  if (heads * config.mamba2.head_dim != config.expand * config.hidden_size)
    values.refuse("num_heads", "expand * hidden_size / head_dim", std::to_string(heads));
  expect_at_least_one(values, "head_dim", config.mamba2.head_dim);
  expect_at_least_one(values, "n_groups", config.mamba2.num_groups);
  return config;
}

LanguageModelConfig official_mamba(ConfigValues& values) {
  LanguageModelConfig config;
  config.vocab_size = values.integer("vocab_size", 50277, kMaxIds);
  config.pad_vocab_multiple = values.integer("pad_vocab_size_multiple", 8);
  config.hidden_size = values.integer("d_model", 2560);
  config.num_layers = values.integer("n_layer", 64, kMaxLayers);
  config.tie_embeddings = values.boolean("tie_embeddings", true);
  if (!values.boolean("rms_norm", true)) values.refuse("rms_norm", "true", "false");
  if (values.integer("d_intermediate", 0) != 0) values.refuse("d_intermediate", "0: blocks without MLP", "more");
  if (const auto* attention = values.find("attn_layer_idx");
      attention != nullptr && (!attention->is_array() || !attention->items().empty()))
    values.refuse("attn_layer_idx", "no attention layers", attention->to_string());
  ConfigValues ssm(values.object("ssm_cfg"), values.where());
  const std::string layer = ssm.text("layer", "Mamba1");
  if (layer != "Mamba1" && layer != "Mamba2") ssm.refuse("ssm_cfg.layer", "Mamba1 or Mamba2", "\"" + layer + "\"");
  const bool second = layer == "Mamba2";
  config.kind = second ? LanguageKind::kMamba2 : LanguageKind::kMamba;
  config.d_state = ssm.integer("d_state", second ? 128 : 16);
  config.d_conv = ssm.integer("d_conv", 4, kMaxFactor);
  config.expand = ssm.integer("expand", 2, kMaxFactor);
  config.projection_bias = ssm.boolean("bias", false);
  config.conv_bias = ssm.boolean("conv_bias", true);
  if (!second) config.dt_rank = read_rank(ssm, "dt_rank");
  expect_at_least_one(ssm, "d_state", config.d_state);
  expect_at_least_one(ssm, "d_conv", config.d_conv);
  expect_at_least_one(ssm, "expand", config.expand);
  if (second) {
    config.mamba2.head_dim = ssm.integer("headdim", 64);
    config.mamba2.num_groups = config.mamba2.norm_groups = ssm.integer("ngroups", 1);
    read_dt_limit(ssm, "dt_limit", config.mamba2);
    const std::string activation = ssm.text("activation", "swish");
    if (activation != "silu" && activation != "swish")
      ssm.refuse("ssm_cfg.activation", "swish", "\"" + activation + "\"");
    for (const auto& [key, wanted] : {std::pair("D_has_hdim", false), {"norm_before_gate", false}, {"rmsnorm", true}})
      if (ssm.boolean(key, wanted) != wanted)
        ssm.refuse("ssm_cfg." + std::string(key), wanted ? "true" : "false", wanted ? "false" : "true");
    expect_at_least_one(ssm, "headdim", config.mamba2.head_dim);
    expect_at_least_one(ssm, "ngroups", config.mamba2.num_groups);
  }
  values.take_errors(ssm);
  expect_at_least_one(values, "vocab_size", config.vocab_size);
  expect_at_least_one(values, "pad_vocab_size_multiple", config.pad_vocab_multiple);
  expect_at_least_one(values, "d_model", config.hidden_size);
  return config;
}

LanguageModelConfig gpt_neox(ConfigValues& values) {
  LanguageModelConfig config;
  config.kind = LanguageKind::kGptNeox;
  config.pad_vocab_multiple = 1;
  config.vocab_size = values.integer("vocab_size", 50432, kMaxIds);
  config.hidden_size = values.integer("hidden_size", 6144);
  config.num_layers = values.integer("num_hidden_layers", 44, kMaxLayers);
  config.norm_eps = values.number("layer_norm_eps", 1e-5);
  config.tie_embeddings = values.boolean("tie_word_embeddings", false);
  auto& neox = config.gpt_neox;
  neox.num_heads = values.integer("num_attention_heads", 64);
  neox.intermediate_size = values.integer("intermediate_size", 24576);
  neox.parallel_residual = values.boolean("use_parallel_residual", true);
  neox.attention_bias = values.boolean("attention_bias", true);
  neox.activation = activation_named(values, "hidden_act", "gelu");
  // rotary_pct and rotary_emb_base until transformers 4, rope_parameters since 5.
  neox.rotary_fraction = values.number("rotary_pct", 0.25);
  neox.rotary_base = values.number("rotary_emb_base", values.number("rope_theta", 10000));
  ConfigValues rope(values.object("rope_parameters"), values.where());
  neox.rotary_fraction = rope.number("partial_rotary_factor", neox.rotary_fraction);
  neox.rotary_base = rope.number("rope_theta", neox.rotary_base);
  if (neox.rotary_fraction > 1) rope.refuse("rotary_pct", "at most 1", io::Json(neox.rotary_fraction).to_string());
  if (neox.rotary_base < 1) rope.refuse("rope_theta", "at least 1", io::Json(neox.rotary_base).to_string());
  if (const auto type = rope.text("rope_type", "default"); type != "default")
    rope.refuse("rope_parameters.rope_type", "default", "\"" + type + "\"");
  if (values.find("rope_scaling") != nullptr)
    values.refuse("rope_scaling", "null", values.find("rope_scaling")->to_string());
  values.take_errors(rope);
  expect_at_least_one(values, "vocab_size", config.vocab_size);
  expect_at_least_one(values, "hidden_size", config.hidden_size);
  expect_at_least_one(values, "num_attention_heads", neox.num_heads);
  return config;
}

NameMap language_names(const LanguageModelConfig& config) {
  const bool neox = config.kind == LanguageKind::kGptNeox, tied = config.tie_embeddings;
  const std::string body = neox ? "gpt_neox." : "backbone.", head = neox ? "embed_out.weight" : "lm_head.weight";
  return [=](const std::string& stored) -> std::optional<std::string> {
    if (stored == "lm_head.weight" || stored == "embed_out.weight") {
      if (tied) return std::nullopt;
      return head;
    }
    std::string name = stored.starts_with(body) ? stored : body + stored;  // a body alone has no prefix
    if (name == "backbone.embedding.weight") return "backbone.embeddings.weight";
    for (const std::string_view buffer : {".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"})
      if (neox && name.ends_with(buffer)) return std::nullopt;
    return name;
  };
}

}  // namespace vlmamba::formats
