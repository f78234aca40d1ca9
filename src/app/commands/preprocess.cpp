#include <filesystem>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/data/image_processor.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string processor, output;
  std::vector<std::string> images;
  bool pad_to_square = false;
};

io::TensorView view_of(const std::string& name, const std::vector<int64_t>& shape, const std::vector<float>& values) {
  return {name, "F32", shape, values.data(), values.size() * sizeof(float)};
}

bool one_size(const std::vector<Pixels>& all) {
  for (const Pixels& pixels : all)
    if (pixels.height != all[0].height || pixels.width != all[0].width) return false;
  return true;
}

// One tensor of all pictures.
std::string together(const std::vector<Pixels>& all) {
  std::vector<float> values;
  for (const Pixels& pixels : all) values.insert(values.end(), pixels.values.begin(), pixels.values.end());
  const std::vector<int64_t> shape{static_cast<int64_t>(all.size()), 3, all[0].height, all[0].width};
  return io::to_safetensors({view_of("pixel_values", shape, values)}, {});
}

// A tensor for each picture, under the name of its file.
std::string apart(const std::vector<Pixels>& all, const std::vector<std::string>& paths) {
  std::vector<io::TensorView> views;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name = std::filesystem::path(paths[i]).filename().string();
    for (const auto& other : views)
      if (other.name == name)
        throw Error(ExitCode::kUsage, paths[i],
                    "expected file names that differ, since the sizes do, got this one twice");
    views.push_back(view_of(name, {3, all[i].height, all[i].width}, all[i].values));
  }
  return io::to_safetensors(views, {});
}

ExitCode preprocess(const Options& options) {
  ImageSteps steps = read_image_steps(options.processor);
  steps.pad_to_square = options.pad_to_square;
  const ImageProcessor processor(steps);
  std::vector<Pixels> all;
  for (const auto& path : options.images) all.push_back(processor.pixels(io::read_image(path)));
  io::write_file_atomically(options.output, one_size(all) ? together(all) : apart(all, options.images));
  return ExitCode::kOk;
}

}  // namespace

Command add_preprocess(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("preprocess", "Turn pictures into the pixel_values that an encoder takes");
  command->add_option("--processor", options->processor, "preprocessor_config.json of CLIP or SigLIP, or its folder")
      ->required();
  command->add_flag("--pad-to-square", options->pad_to_square,
                    "first put each picture on a square of the mean's colour");
  command->add_option("--output", options->output, "safetensors file to write")->required();
  command->add_option("images", options->images, "JPEG, PNG, WebP or GIF")->required();
  return {command, [options] { return preprocess(*options); }};
}

}  // namespace vlmamba::app
