#include "vlmamba/model/formats/foreign.h"

#include <filesystem>
#include <set>

#include "src/model/formats/config_values.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"

namespace vlmamba::formats {
namespace {

namespace fs = std::filesystem;

// Python writes Infinity, which is no JSON: as transformers 5 spells it.
std::string without_infinity(const std::string& text) {
  constexpr std::string_view kInfinity = "Infinity";
  std::string result;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"' && (i == 0 || text[i - 1] != '\\')) quoted = !quoted;
    if (!quoted && text.compare(i, kInfinity.size(), kInfinity) == 0) {
      result += R"({"__float__": "Infinity"})";
      i += kInfinity.size() - 1;
    } else {
      result += text[i];
    }
  }
  return result;
}

io::Json read_config_json(const fs::path& path) {
  constexpr uintmax_t kMaxConfig = uintmax_t{1} << 20;
  std::error_code failed;
  if (fs::file_size(path, failed) > kMaxConfig || failed)
    throw Error(ExitCode::kWeights, path.string(), "expected a config of at most 1 MiB");
  return io::parse_json(without_infinity(io::read_file(path.string(), ExitCode::kWeights)), path.string(),
                        ExitCode::kWeights);
}

std::vector<int64_t> end_tokens(ConfigValues& values) {
  const auto* value = values.find("eos_token_id");
  if (value == nullptr) return {};
  if (value->is_integer()) return {value->as_integer()};
  std::vector<int64_t> ids;
  for (const auto& item : value->items())
    if (item.is_integer()) ids.push_back(item.as_integer());
  if (ids.empty() || ids.size() != value->items().size())
    values.refuse("eos_token_id", "an id, or an array of ids", value->to_string());
  return ids;
}

// Everything that differs, by the names of our config.
class Disagreements {
 public:
  explicit Disagreements(const std::string& where) : where_(where) {}
  template <typename T>
  void compare(const char* key, const T& ours, const T& theirs) {
    if (ours == theirs) return;
    text_ += (text_.empty() ? "[" : "\n[") + where_ + "] " + key + ": the config says " + written(ours) +
             ", the weights' own config.json says " + written(theirs);
  }
  void throw_if_any() const {
    if (!text_.empty()) throw Error(ExitCode::kWeights, text_);
  }

 private:
  template <typename T>
  static std::string written(const T& value) {
    return io::detail::Binding<T>::write(value).to_string();
  }
  const std::string& where_;
  std::string text_;
};

}  // namespace

Foreign parse_foreign(const io::Json& config, const std::string& where) {
  ConfigValues values(config, where);
  const std::string type = values.text("model_type", "");
  Foreign found;
  found.end_tokens = end_tokens(values);
  found.residual_in_fp32 = values.boolean("residual_in_fp32", true);
  const auto vision = [&](VisionKind kind, const char* description) {
    found.description = description;
    found.vision_encoder = vision_config(values, kind);
  };
  const auto vision_part = [&](VisionKind kind, const char* description) {
    ConfigValues part(values.object("vision_config"), where);
    found.description = description;
    found.vision_encoder = vision_config(part, kind);
    values.take_errors(part);
  };
  const auto language = [&](LanguageModelConfig model, const char* description, int64_t end) {
    found.description = description;
    found.language_model = std::move(model);
    if (config.find("eos_token_id") == nullptr) found.end_tokens = {end};  // null: none
  };
  if (type == "clip_vision_model")
    vision(VisionKind::kClip, "Hugging Face's CLIPVisionModel");
  else if (type == "siglip_vision_model")
    vision(VisionKind::kSiglip, "Hugging Face's SiglipVisionModel");
  else if (type == "clip")
    vision_part(VisionKind::kClip, "Hugging Face's CLIPModel, vision part");
  else if (type == "siglip")
    vision_part(VisionKind::kSiglip, "Hugging Face's SiglipModel, vision part");
  else if (type == "mamba")
    language(hf_mamba(values), "Hugging Face's MambaForCausalLM", 0);
  else if (type == "mamba2")
    language(hf_mamba2(values), "Hugging Face's Mamba2ForCausalLM", 2);
  else if (type == "gpt_neox")
    language(gpt_neox(values), "Hugging Face's GPTNeoXForCausalLM", 2);
  else if (type.empty() && config.find("d_model") != nullptr && config.find("n_layer") != nullptr)
    language(official_mamba(values), "mamba_ssm's MambaLMHeadModel", 0), found.of_mamba_ssm = true;
  else
    values.refuse("model_type",
                  "clip, clip_vision_model, siglip, siglip_vision_model, mamba, mamba2, gpt_neox, or "
                  "mamba_ssm's d_model and n_layer",
                  type.empty()         ? "none"
                  : type == "vl_mamba" ? "vl_mamba, which vlmamba convert --to checkpoint makes a checkpoint of again"
                                       : "\"" + type + "\"");
  values.throw_if_any();
  return found;
}

Foreign read_foreign_config(const std::string& path) { return parse_foreign(read_config_json(path), path); }

std::optional<Foreign> read_foreign(const std::string& folder) {
  const fs::path path = fs::path(folder) / "config.json";
  if (!fs::is_regular_file(path) || fs::exists(fs::path(folder) / "manifest.json")) return std::nullopt;
  const io::Json config = read_config_json(path);
  if (!config.is_object()) return std::nullopt;
  for (const char* ours : {"stages", "model", "vl_mamba"})
    if (config.find(ours) != nullptr) return std::nullopt;
  Foreign found = parse_foreign(config, path.string());
  const fs::path generation = fs::path(folder) / "generation_config.json";
  if (!fs::is_regular_file(generation)) return found;
  const io::Json json = read_config_json(generation);
  ConfigValues values(json, generation.string());
  if (json.find("eos_token_id") != nullptr) found.end_tokens = end_tokens(values);
  values.throw_if_any();
  return found;
}

void check_agrees(const VisionEncoderConfig& ours, const VisionEncoderConfig& theirs, const std::string& where) {
  Disagreements disagreements(where);
  disagreements.compare("kind", ours.kind, theirs.kind);
  disagreements.compare("image_size", ours.image_size, theirs.image_size);
  disagreements.compare("patch_size", ours.patch_size, theirs.patch_size);
  disagreements.compare("hidden_size", ours.hidden_size, theirs.hidden_size);
  disagreements.compare("intermediate_size", ours.intermediate_size, theirs.intermediate_size);
  disagreements.compare("num_layers", ours.num_layers, theirs.num_layers);
  disagreements.compare("num_heads", ours.num_heads, theirs.num_heads);
  disagreements.compare("activation", ours.used_activation(), theirs.used_activation());
  disagreements.compare("norm_eps", ours.used_eps(), theirs.used_eps());
  disagreements.throw_if_any();
}

void check_agrees(const LanguageModelConfig& ours, const LanguageModelConfig& theirs, const std::string& where) {
  Disagreements all(where);
  all.compare("kind", ours.kind, theirs.kind);
  all.compare("embedding rows (vocab_size, padded)", ours.embedding_rows(), theirs.embedding_rows());
  all.compare("hidden_size", ours.hidden_size, theirs.hidden_size);
  all.compare("num_layers", ours.num_layers, theirs.num_layers);
  all.compare("norm_eps", ours.norm_eps, theirs.norm_eps);
  all.compare("tie_embeddings", ours.tie_embeddings, theirs.tie_embeddings);
  if (theirs.kind == LanguageKind::kGptNeox) {
    const auto &a = ours.gpt_neox, &b = theirs.gpt_neox;
    all.compare("gpt_neox.num_heads", a.num_heads, b.num_heads);
    all.compare("gpt_neox.intermediate_size", a.intermediate_size, b.intermediate_size);
    all.compare("gpt_neox.rotary_fraction", a.rotary_fraction, b.rotary_fraction);
    all.compare("gpt_neox.rotary_base", a.rotary_base, b.rotary_base);
    all.compare("gpt_neox.parallel_residual", a.parallel_residual, b.parallel_residual);
    all.compare("gpt_neox.attention_bias", a.attention_bias, b.attention_bias);
    all.compare("gpt_neox.activation", a.activation, b.activation);
    return all.throw_if_any();
  }
  all.compare("d_state", ours.d_state, theirs.d_state);
  all.compare("d_conv", ours.d_conv, theirs.d_conv);
  all.compare("expand", ours.expand, theirs.expand);
  all.compare("projection_bias", ours.projection_bias, theirs.projection_bias);
  all.compare("conv_bias", ours.conv_bias, theirs.conv_bias);
  if (theirs.kind == LanguageKind::kMamba2) {
    const auto &a = ours.mamba2, &b = theirs.mamba2;
    all.compare("mamba2.head_dim", a.head_dim, b.head_dim);
    all.compare("mamba2.num_groups", a.num_groups, b.num_groups);
    all.compare("mamba2.norm_groups", a.norm_groups, b.norm_groups);
    all.compare("mamba2.dt_min", a.dt_min, b.dt_min);
    all.compare("mamba2.dt_max", a.dt_max, b.dt_max);
  } else {
    const auto rank = [](const LanguageModelConfig& c) {
      return c.dt_rank > 0 ? c.dt_rank : (c.hidden_size + 15) / 16;
    };
    all.compare("dt_rank", rank(ours), rank(theirs));
  }
  all.throw_if_any();
}

}  // namespace vlmamba::formats
