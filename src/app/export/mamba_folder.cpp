#include <filesystem>

#include "src/app/export/export.h"
#include "src/app/export/weight_folder.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/io/weights/torch_file.h"
#include "vlmamba/model/formats/foreign.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;
using formats::Foreign;
using io::Json;

constexpr const char *kConfig = "config.json", *kHead = "lm_head.weight", *kEmbedding = "backbone.embeddings.weight",
                     *kOfficialEmbedding = "backbone.embedding.weight";
constexpr double kOfficialEps = 1e-5;
const std::vector<std::string> kCompanions{
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "vocab.json",
    "merges.txt"};

// Where the config of a format lies beside the other format's config.json.
const char* kept_name(MambaFormat format) {
  return format == MambaFormat::kOfficial ? "config.mamba_ssm.json" : "config.transformers.json";
}

std::string bytes_of(const std::string& path) { return io::read_file(path, ExitCode::kWeights); }

Foreign read_mamba(const std::string& folder, MambaFormat to) {
  const auto foreign = formats::read_foreign(folder);
  const bool official = to == MambaFormat::kOfficial;
  if (!foreign || !foreign->language_model || foreign->language_model->kind == LanguageKind::kGptNeox ||
      foreign->of_mamba_ssm == official)
    throw Error(ExitCode::kWeights, folder,
                std::string("expected ") +
                    (official ? "Hugging Face's MambaForCausalLM or Mamba2ForCausalLM"
                              : "a Mamba of mamba_ssm, or a checkpoint of this program") +
                    ", got " + (foreign ? foreign->description : "no config.json of one"));
  return *foreign;
}

// What the other format has no word for.
void check_sayable(const LanguageModelConfig& config, MambaFormat to, const std::string& where) {
  if (to == MambaFormat::kOfficial && config.norm_eps != kOfficialEps)
    throw Error(ExitCode::kWeights, where,
                "layer_norm_epsilon: expected " + Json(kOfficialEps).to_string() +
                    ", the only one that mamba_ssm has, got " + Json(config.norm_eps).to_string());
  if (config.kind == LanguageKind::kMamba2 && config.mamba2.num_groups > 1)
    throw Error(ExitCode::kWeights, where,
                "groups: expected 1, since mamba_ssm normalises each group apart and transformers all together, got " +
                    std::to_string(config.mamba2.num_groups));
}

std::string translated(const Foreign& foreign, MambaFormat to) {
  LanguageModelConfig config = *foreign.language_model;
  Json json = to == MambaFormat::kOfficial ? official_config(config) : language_config(config);
  json.set("residual_in_fp32", foreign.residual_in_fp32);
  if (to == MambaFormat::kHuggingFace) json.set("eos_token_id", end_token_ids(foreign.end_tokens));
  return json.to_string(2) + "\n";
}

// The config in the other format: the one that it once came with, where that still holds.
std::string other_config(const std::string& folder, const Foreign& foreign, MambaFormat to) {
  const std::string kept = folder + "/" + kept_name(to);
  if (!fs::exists(kept)) return translated(foreign, to);
  const auto before = formats::read_foreign_config(kept);
  if (!before.language_model || before.of_mamba_ssm != (to == MambaFormat::kOfficial))
    throw Error(ExitCode::kWeights, kept, "expected the config of a Mamba as it was, got " + before.description);
  formats::check_agrees(*foreign.language_model, *before.language_model, kept);
  if (before.residual_in_fp32 != foreign.residual_in_fp32)
    throw Error(ExitCode::kWeights, kept, "residual_in_fp32: expected what config.json says, got another value");
  return bytes_of(kept);
}

// mamba_ssm's config has no word for it, and its programs know 0 alone.
void keep_end_tokens(const Foreign& foreign, const std::string& output) {
  const std::string path = output + "/generation_config.json";
  if (foreign.end_tokens == std::vector<int64_t>{0} || fs::exists(path)) return;
  Json json = Json::object();
  json.set("eos_token_id", end_token_ids(foreign.end_tokens));
  io::write_file_atomically(path, json.to_string(2) + "\n");
}

// mamba_ssm reads pytorch_model.bin alone, and wants the head also where it is the embedding.
void write_official(const io::WeightFiles& files, const std::string& path, const LanguageModelConfig& config) {
  RenamedTensors tensors(files, [ours = formats::language_names(config)](const std::string& stored) {
    auto name = ours(stored);
    if (name == kEmbedding) name = kOfficialEmbedding;
    return name;
  });
  if (config.tie_embeddings)
    for (const auto& view : std::vector(tensors.views))
      if (view.name == kOfficialEmbedding)
        tensors.views.push_back({kHead, view.dtype, view.shape, view.data, view.bytes});
  io::write_file_atomically(path, io::to_torch_file(tensors.views));
  files.check_unchanged();
}

// A folder that says what its weights are must be that.
io::WeightFiles checked_weights(const std::string& input) {
  if (fs::is_directory(input)) {
    if (fs::exists(fs::path(input) / "manifest.json")) io::verify_checkpoint(input);
    if (auto files = check_foreign(input)) return std::move(*files);
    if (io::find_weights(input).empty() && fs::exists(fs::path(input) / kConfig) && !exported_part(input))
      throw Error(ExitCode::kWeights, input,
                  "expected weights of another library, got a run, whose checkpoints hold model.safetensors already");
  }
  return io::WeightFiles(input);
}

}  // namespace

void convert_mamba(const std::string& folder, const std::string& output, MambaFormat to) {
  const bool official = to == MambaFormat::kOfficial;
  const Foreign foreign = read_mamba(folder, to);
  const LanguageModelConfig& config = *foreign.language_model;
  check_sayable(config, to, folder + "/" + kConfig);
  const auto files = check_foreign(folder);
  const std::string other = other_config(folder, foreign, to);
  const OutputFolder made(output);
  warn_of_non_finite(*files);
  if (official)
    write_official(*files, made.path() + "/pytorch_model.bin", config);
  else
    write_safetensors(*files, made.path() + "/model.safetensors", formats::language_names(config));
  copy_files(folder, made.path(), kCompanions);
  if (official) keep_end_tokens(foreign, made.path());
  io::write_file_atomically(
      made.path() + "/" + kept_name(official ? MambaFormat::kHuggingFace : MambaFormat::kOfficial),
      bytes_of(folder + "/" + kConfig));
  io::write_file_atomically(made.path() + "/" + kConfig, other);
  made.finish();
}

void convert_to_safetensors(const std::string& input, const std::string& output) {
  const io::WeightFiles files = checked_weights(input);
  const OutputFolder made(output);
  warn_of_non_finite(files);
  write_safetensors(files, made.path() + "/model.safetensors",
                    [](const std::string& name) { return std::optional(name); });
  if (fs::is_directory(input)) {
    auto names = kCompanions;
    names.insert(names.end(), {kConfig, "preprocessor_config.json"});
    copy_files(input, made.path(), names);
  }
  made.finish();
}

}  // namespace vlmamba::app
