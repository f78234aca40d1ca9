#include <filesystem>

#include "src/app/export/export.h"
#include "src/app/export/weight_folder.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/weights/torch_file.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char *kOfficialEmbedding = "backbone.embedding.weight", *kHfEmbedding = "backbone.embeddings.weight",
                     *kHead = "lm_head.weight";
const std::vector<std::string> kCompanions{
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "vocab.json",
    "merges.txt"};

const io::WeightFiles::Tensor& embedding_of(const io::WeightFiles& files) {
  const auto* tensor = files.find(kOfficialEmbedding);
  if (!tensor) tensor = files.find(kHfEmbedding);
  if (!tensor || tensor->shape.size() != 2)
    throw Error(ExitCode::kWeights, files.path(),
                "expected " + std::string(kHfEmbedding) + " or " + kOfficialEmbedding + ", got neither");
  return *tensor;
}

void write_hf(const io::WeightFiles& files, const std::string& output, bool tied) {
  write_safetensors(files, output + "/model.safetensors", [&](const std::string& name) -> std::optional<std::string> {
    if (name == kOfficialEmbedding) return kHfEmbedding;
    if (name == kHead && tied) return std::nullopt;
    return name;
  });
}

// mamba_ssm reads pytorch_model.bin alone, and wants the head also where it is the embedding.
void write_official(const io::WeightFiles& files, const std::string& output, bool tied) {
  RenamedTensors tensors(files, [&](const std::string& name) -> std::optional<std::string> {
    if (name == kHead && tied) return std::nullopt;
    return name == kHfEmbedding ? kOfficialEmbedding : name;
  });
  if (tied)
    for (const auto& view : std::vector(tensors.views))
      if (view.name == kOfficialEmbedding)
        tensors.views.push_back({kHead, view.dtype, view.shape, view.data, view.bytes});
  io::write_file_atomically(output + "/pytorch_model.bin", io::to_torch_file(tensors.views));
  files.check_unchanged();
}

}  // namespace

void convert_mamba(const std::string& folder, const std::string& output, MambaFormat to) {
  const std::string where = folder + "/config.json";
  const Json config = io::read_json(where, ExitCode::kWeights);
  const io::WeightFiles files(folder);
  const int64_t rows = embedding_of(files).shape[0];
  const bool is_hf = config.find("model_type") != nullptr, to_hf = to == MambaFormat::kHuggingFace;
  if (is_hf == to_hf)
    throw Error(
        ExitCode::kWeights, where,
        std::string("expected the config of ") + (to_hf ? "mamba_ssm" : "transformers") + ", got the other one");
  const Json written = to_hf ? official_to_hf(config, rows, where) : hf_to_official(config, where);
  const Json* tie = (to_hf ? written : config).find("tie_word_embeddings");
  const bool tied = !tie || !tie->is_bool() || tie->as_bool();
  make_output_folder(output);
  (to_hf ? write_hf : write_official)(files, output, tied);
  copy_files(folder, output, kCompanions);
  io::write_file_atomically(output + "/config.json", written.to_string(2) + "\n");
}

void convert_to_safetensors(const std::string& input, const std::string& output) {
  const io::WeightFiles files(input);
  make_output_folder(output);
  write_safetensors(files, output + "/model.safetensors", [](const std::string& name) { return std::optional(name); });
  if (!fs::is_directory(input)) return;
  auto names = kCompanions;
  names.insert(names.end(), {"config.json", "preprocessor_config.json"});
  copy_files(input, output, names);
}

}  // namespace vlmamba::app
