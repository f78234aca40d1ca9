#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/app/build.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  bool tensors = false;
};

int64_t elements(const io::TensorInfo& tensor) {
  int64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  return count;
}

// Tensors summed by the first part of their names and by dtype, or each on its own.
void print_weights(const std::string& path, bool each) {
  const io::SafetensorsFile file(path);
  std::printf("%s: safetensors, %zu tensors\n", path.c_str(), file.tensors().size());
  for (const auto& [key, value] : file.metadata()) std::printf("  metadata %s: %s\n", key.c_str(), value.c_str());
  std::map<std::pair<std::string, std::string>, std::pair<size_t, int64_t>> parts;
  for (const auto& tensor : file.tensors()) {
    auto& [count, total] = parts[{tensor.name.substr(0, tensor.name.find('.')), tensor.dtype}];
    ++count;
    total += elements(tensor);
    if (each)
      std::printf("  %-64s %-5s %s\n", tensor.name.c_str(), tensor.dtype.c_str(), io::shape_text(tensor.shape).c_str());
  }
  for (const auto& [part, sums] : parts)
    std::printf("  %-24s %-5s %5zu tensors %14lld parameters\n", part.first.c_str(), part.second.c_str(), sums.first,
                static_cast<long long>(sums.second));
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

ExitCode inspect(const Options& options) {
  if (fs::is_regular_file(options.path)) {
    print_weights(options.path, options.tensors);
    return ExitCode::kOk;
  }
  const CheckpointPlace place = find_checkpoint(options.path);
  const auto state = io::read_json(place.folder + "/state.json", ExitCode::kWeights);
  std::printf("%s: checkpoint of vlmamba\n", place.folder.c_str());
  for (const auto& [key, value] : state.members())
    std::printf("  %-15s %s\n", key.c_str(), value.is_string() ? value.as_string().c_str() : value.to_string().c_str());
  print_model(io::read_config<RunConfig>(place.folder + "/config.json", {}));
  print_weights(place.folder + "/model.safetensors", options.tensors);
  io::verify_checkpoint(place.folder);
  std::printf("  whole: every file is as it was written\n");
  return ExitCode::kOk;
}

}  // namespace

Command add_inspect(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "Explain a checkpoint, a run or a weight file");
  command->add_option("path", options->path, "a run, a step folder, or a .safetensors file")->required();
  command->add_flag("--tensors", options->tensors, "list every tensor with dtype and shape");
  return {command, [options] { return inspect(*options); }};
}

}  // namespace vlmamba::app
