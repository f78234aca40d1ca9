#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "src/app/commands/commands.h"
#include "src/app/export/export.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/text.h"
#include "vlmamba/io/checkpoint_manifest.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/weights/weight_files.h"
#include "vlmamba/model/formats/foreign.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  bool tensors = false;
  std::string prefix;
};

// What a weight file is, by the names in it.
std::string kind_of(const io::WeightFiles& files) {
  const auto any = [&](std::string_view part) {
    return std::any_of(files.tensors().begin(), files.tensors().end(),
                       [&](const auto& tensor) { return tensor.name.find(part) != std::string::npos; });
  };
  if (any("vision_encoder.")) return "a model of vlmamba";
  if (any("connector.") || any("language_model.")) return "trained parts of a model of vlmamba";
  if (any("mm_projector.")) return "a connector of LLaVA";
  if (any("vss.")) return "a connector of vlmamba";
  if (any("text_model.")) return "a CLIP or SigLIP model with text part";
  if (any("embeddings.patch_embedding.")) return any("class_embedding") ? "a CLIP encoder" : "a SigLIP encoder";
  if (any("mixer.dt_bias")) return "a Mamba-2 language model";
  if (any("mixer.dt_proj."))
    return any("backbone.embedding.") ? "a Mamba language model, mamba_ssm's names" : "a Mamba language model";
  if (any("attention.query_key_value.")) return "a GPT-NeoX language model";
  return "";
}

// Tensors summed by the first part of their names and by dtype, and before that each on its own.
void print_weights(const std::string& path, const Options& options, bool listed = true) {
  const io::WeightFiles file(path, options.prefix);
  const std::string kind = kind_of(file);
  std::printf("%s: %s, %zu tensors%s%s\n", file.path().c_str(), file.format().c_str(), file.tensors().size(),
              kind.empty() ? "" : ", ", kind.c_str());
  for (const auto& [key, value] : file.metadata())
    std::printf("  metadata %s: %s\n", printable(key).c_str(), printable(value).c_str());
  std::map<std::pair<std::string, std::string>, std::pair<size_t, int64_t>> parts;
  for (const auto& tensor : file.tensors()) {
    auto& [count, total] = parts[{tensor.name.substr(0, tensor.name.find('.')), tensor.dtype}];
    ++count;
    total += tensor.elements();
    if (listed)
      std::printf("  %-64s %-5s %s\n", printable(tensor.name).c_str(), tensor.dtype.c_str(),
                  io::shape_text(tensor.shape).c_str());
  }
  for (const auto& [part, sums] : parts)
    std::printf("  %-24s %-5s %5zu tensors %14lld parameters\n", printable(part.first).c_str(), part.second.c_str(),
                sums.first, static_cast<long long>(sums.second));
}

void print_state(const io::Json& state) {
  for (const auto& [key, value] : state.members())
    std::printf("  %-15s %s\n", printable(key).c_str(),
                printable(value.is_string() ? value.as_string() : value.to_string()).c_str());
}

void print_model(const RunConfig& config) {
  const auto& model = config.model;
  std::printf(
      "  vision encoder  %s, %lld px, patch %lld, width %lld, %lld layers, features of layer %lld\n",
      std::string(enum_name(model.vision_encoder.kind)).c_str(),
      static_cast<long long>(model.vision_encoder.image_size), static_cast<long long>(model.vision_encoder.patch_size),
      static_cast<long long>(model.vision_encoder.hidden_size), static_cast<long long>(model.vision_encoder.num_layers),
      static_cast<long long>(model.vision_encoder.feature_layer));
  std::printf("  connector       %s, scan %s, merge %s, block %s, weights %s\n", model.connector.kind.c_str(),
              std::string(enum_name(model.connector.vss.scan)).c_str(),
              std::string(enum_name(model.connector.vss.merge)).c_str(),
              std::string(enum_name(model.connector.vss.block)).c_str(),
              std::string(enum_name(model.connector.vss.weights)).c_str());
  std::printf("  language model  %s, width %lld, %lld layers, %lld ids\n",
              std::string(enum_name(model.language_model.kind)).c_str(),
              static_cast<long long>(model.language_model.hidden_size),
              static_cast<long long>(model.language_model.num_layers),
              static_cast<long long>(model.language_model.vocab_size));
}

// The keys of our config that a model of another library corresponds to.
void print_foreign(const std::string& folder, const formats::Foreign& foreign) {
  std::printf("%s: %s\n", folder.c_str(), foreign.description.c_str());
  const auto config = foreign.vision_encoder ? io::write_config(*foreign.vision_encoder)
                                             : io::write_config(foreign.language_model.value());
  const std::string section = foreign.vision_encoder ? "vision_encoder" : "language_model";
  const std::string other =
      foreign.language_model && foreign.language_model->kind == LanguageKind::kGptNeox ? "mamba2" : "gpt_neox";
  for (const auto& [key, value] : config.members())
    if (key != "pretrained" && key != other)
      std::printf("  %s.%-20s %s\n", section.c_str(), key.c_str(), value.to_string().c_str());
}

// A folder that says nothing of itself but what its weights say.
bool holds_weights_alone(const std::string& folder) {
  return !io::find_weights(folder).empty() && !fs::exists(fs::path(folder) / "config.json");
}

ExitCode inspect(const Options& options) {
  if ((fs::exists(options.path) && !fs::is_directory(options.path)) || holds_weights_alone(options.path)) {
    print_weights(options.path, options);
    return ExitCode::kOk;
  }
  if (const auto foreign = formats::read_foreign(options.path)) {
    print_foreign(options.path, *foreign);
    print_weights(options.path, options);
    return ExitCode::kOk;
  }
  if (const auto exported = exported_part(options.path)) {
    std::printf("%s: a model of vlmamba, exported for transformers\n", options.path.c_str());
    print_state(*exported->find("state"));
    print_model(io::from_json<RunConfig>(*exported->find("config"), options.path + "/config.json"));
    print_weights(options.path, options);
    return ExitCode::kOk;
  }
  const CheckpointPlace place = find_checkpoint(options.path);
  const auto state = io::read_json(place.folder + "/state.json", ExitCode::kWeights);
  std::printf("%s: checkpoint of vlmamba\n", place.folder.c_str());
  print_state(state);
  print_model(read_saved_config(place.folder + "/config.json"));
  print_weights(place.folder, options, options.tensors);
  io::verify_checkpoint(place.folder);
  for (const auto& [part, file] : io::read_manifest(place.folder).references)
    std::printf("  %s is %s\n", part.c_str(), io::referenced_path(place.folder, file).c_str());
  std::printf("  whole: every file is as it was written\n");
  return ExitCode::kOk;
}

}  // namespace

Command add_inspect(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "Explain a checkpoint, a run or a weight file");
  command
      ->add_option(
          "path", options->path,
          "a run, a step folder, a folder of Hugging Face or mamba_ssm, a file of safetensors or torch.save, or the "
          "index of its shards")
      ->required();
  command->add_flag("--tensors", options->tensors, "list every tensor of a run's checkpoint too");
  command->add_option("--prefix", options->prefix, "only tensors whose names begin so, without it");
  return {command, [options] { return inspect(*options); }};
}

}  // namespace vlmamba::app
