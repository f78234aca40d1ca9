#include "vlmamba/model/pretrained.h"

#include <ATen/ATen.h>

#include <cstring>
#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/model/formats/foreign.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/nn/parameters.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;

// A checkpoint of this program holds all parts: `part` ("connector.") names the one that is meant.
io::WeightFiles open_weights(const std::string& path, std::string_view part) {
  const bool checkpoint = fs::exists(fs::path(path) / "manifest.json");
  if (checkpoint) io::verify_checkpoint(path);
  return io::WeightFiles(path, checkpoint ? part : "");
}

// A file may repeat a tied head; one that differs means that the config is wrong.
void check_tied_head(const io::WeightFiles& files, bool tied) {
  const auto first_of = [&](std::initializer_list<const char*> names) {
    const io::WeightFiles::Tensor* found = nullptr;
    for (const char* name : names)
      if (found == nullptr) found = files.find(name);
    return found;
  };
  const auto* head = first_of({"lm_head.weight", "embed_out.weight"});
  const auto* embedding = first_of({"backbone.embedding.weight", "backbone.embeddings.weight", "embeddings.weight",
                                    "gpt_neox.embed_in.weight", "embed_in.weight"});
  if (!tied || head == nullptr || embedding == nullptr) return;
  if (head->file == embedding->file && head->begin == embedding->begin) return;  // one storage
  constexpr uint64_t kPart = uint64_t{16} << 20;
  const uint64_t size = head->end - head->begin;
  bool equal = head->dtype == embedding->dtype && head->shape == embedding->shape &&
               head->strides == embedding->strides && size == embedding->end - embedding->begin;
  for (uint64_t at = 0; equal && at < size; at += kPart) {
    const uint64_t count = std::min(kPart, size - at);
    equal = std::memcmp(head->data() + at, embedding->data() + at, count) == 0;
    for (const auto* tensor : {head, embedding}) tensor->file->release(tensor->begin + at, tensor->begin + at + count);
  }
  if (!equal)
    throw Error(ExitCode::kWeights, files.path() + ": " + head->name,
                "expected the embedding again (tie_embeddings), got other values; set tie_embeddings to false "
                "(tie_word_embeddings in a config.json of Hugging Face)");
}

io::WeightFiles open_weights(const VisionEncoderConfig& config) {
  if (const auto foreign = formats::read_foreign(config.pretrained)) {
    if (!foreign->vision_encoder)
      throw Error(ExitCode::kWeights, config.pretrained, "expected a vision encoder, got " + foreign->description);
    formats::check_agrees(config, *foreign->vision_encoder, "model.vision_encoder");
  }
  return open_weights(config.pretrained, "vision_encoder.");
}

io::WeightFiles open_weights(const LanguageModelConfig& config) {
  if (const auto foreign = formats::read_foreign(config.pretrained)) {
    if (!foreign->language_model)
      throw Error(ExitCode::kWeights, config.pretrained, "expected a language model, got " + foreign->description);
    formats::check_agrees(config, *foreign->language_model, "model.language_model");
  }
  auto files = open_weights(config.pretrained, "language_model.");
  check_tied_head(files, config.tie_embeddings);
  return files;
}

template <typename Make>
io::WeightFiles check_fitting(io::WeightFiles files, const NameMap& names, const Make& make) {
  const nn::WithoutValues on_meta(at::kFloat, at::kMeta);
  check_weights(named_parameters(*make()), files, names);
  return files;
}

template <typename Part>
std::shared_ptr<Part> filled(std::shared_ptr<Part> part, const io::WeightFiles& files, const NameMap& names) {
  copy_weights(named_parameters(*part), files, names);
  return part;
}

}  // namespace

void load_pretrained(VisionEncoder& part, const VisionEncoderConfig& config) {
  copy_weights(named_parameters(part), open_weights(config), formats::vision_names(config));
}

void load_pretrained(LanguageModel& part, const LanguageModelConfig& config) {
  copy_weights(named_parameters(part), open_weights(config), formats::language_names(config));
}

void load_pretrained(Connector& part, const ConnectorConfig& config) {
  copy_weights(named_parameters(part), open_weights(config.pretrained, "connector."), formats::connector_names(config));
}

io::WeightFiles check_pretrained(const VisionEncoderConfig& config) {
  return check_fitting(open_weights(config), formats::vision_names(config),
                       [&] { return make_vision_encoder(config); });
}

io::WeightFiles check_pretrained(const LanguageModelConfig& config) {
  return check_fitting(open_weights(config), formats::language_names(config),
                       [&] { return make_language_model(config); });
}

std::shared_ptr<VisionEncoder> make_pretrained(const VisionEncoderConfig& config) {
  const auto files = check_pretrained(config);
  return filled(make_vision_encoder(config), files, formats::vision_names(config));
}

std::shared_ptr<LanguageModel> make_pretrained(const LanguageModelConfig& config) {
  const auto files = check_pretrained(config);
  return filled(make_language_model(config), files, formats::language_names(config));
}

}  // namespace vlmamba
