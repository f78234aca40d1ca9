// preprocessor_config.json, as transformers writes it for CLIP and SigLIP.

#include <filesystem>
#include <limits>

#include "vlmamba/data/image_processor.h"

namespace vlmamba {
namespace {

using io::Json;

constexpr int64_t kMaxSide = 1 << 16;

// One file: what it says, or else the default of its class.
class ProcessorFile {
 public:
  ProcessorFile(const Json& json, const std::string& where) : json_(json), where_(where) {}

  [[noreturn]] void refuse(const Json& at, const std::string& message) const {
    throw Error(ExitCode::kWeights, at.line > 0 ? where_ + ":" + std::to_string(at.line) : where_, message);
  }

  // Null counts as absent.
  const Json* find(const char* key) const {
    const Json* value = json_.find(key);
    return value && !value->is_null() ? value : nullptr;
  }

  bool flag(const char* key, bool otherwise) const {
    const Json* value = find(key);
    if (value && !value->is_bool())
      refuse(*value, std::string(key) + ": expected true or false, got " + value->to_string());
    return value ? value->as_bool() : otherwise;
  }

  double number(const char* key, double otherwise) const {
    const Json* value = find(key);
    if (value && !value->is_number())
      refuse(*value, std::string(key) + ": expected a number, got " + value->to_string());
    return value ? value->as_number() : otherwise;
  }

  // A number for all channels, or a list of three.
  std::array<double, 3> channels(const char* key, const std::array<double, 3>& otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (value->is_number()) return {value->as_number(), value->as_number(), value->as_number()};
    std::array<double, 3> numbers{};
    bool good = value->is_array() && value->items().size() == 3;
    for (size_t c = 0; good && c < 3; ++c) {
      good = value->items()[c].is_number();
      numbers[c] = value->items()[c].as_number();
    }
    if (!good) refuse(*value, std::string(key) + ": expected a number or three, got " + value->to_string());
    return numbers;
  }

  int64_t side(const Json& value, const std::string& key) const {
    if (!value.is_integer() || value.as_integer() < 1 || value.as_integer() > kMaxSide)
      refuse(value, key + ": expected pixels of 1 to 65536, got " + value.to_string());
    return value.as_integer();
  }

  // {"height": h, "width": w} or [h, w], and of one number a square or, if `or_shorter`, the shorter side.
  void size(const char* key, bool or_shorter, ImageSteps& steps, int64_t& height, int64_t& width) const {
    const Json* value = find(key);
    if (!value) return;
    if (value->is_integer()) {
      height = width = side(*value, key);
      if (or_shorter) steps.resize_to = ResizeTo::kShorterSide;
      return;
    }
    const Json *h = value->find("height"), *w = value->find("width"), *shorter = value->find("shortest_edge");
    if (value->is_array() && value->items().size() == 2) h = &value->items()[0], w = &value->items()[1];
    if (or_shorter && shorter && value->members().size() == 1) {
      height = width = side(*shorter, key);
      steps.resize_to = ResizeTo::kShorterSide;
    } else if (h && w && (value->is_array() || value->members().size() == 2)) {
      height = side(*h, key);
      width = side(*w, key);
      if (or_shorter) steps.resize_to = ResizeTo::kExactly;
    } else {
      refuse(*value, std::string(key) + ": expected pixels, {height, width}" +
                         (or_shorter ? " or {shortest_edge}" : "") + ", got " + value->to_string());
    }
  }

 private:
  const Json& json_;
  const std::string& where_;
};

enum class Kind { kClip, kSiglip };

Kind kind_of(const ProcessorFile& file, const Json& json) {
  const Json* type = file.find("image_processor_type");
  if (!type) type = file.find("feature_extractor_type");
  if (!type || !type->is_string()) file.refuse(json, "image_processor_type: expected a name, got none");
  std::string name = type->as_string();
  for (const std::string_view suffix : {"Fast", "Pil"})
    if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  if (name == "CLIPImageProcessor" || name == "CLIPFeatureExtractor") return Kind::kClip;
  if (name == "SiglipImageProcessor") return Kind::kSiglip;
  file.refuse(*type, "image_processor_type: expected CLIPImageProcessor or SiglipImageProcessor, got " + name);
}

// A step that is asked for and not known would change the pixels.
void refuse_unknown_steps(const ProcessorFile& file, const Json& json) {
  for (const auto& [key, value] : json.members()) {
    const bool known = key == "do_resize" || key == "do_center_crop" || key == "do_rescale" || key == "do_normalize" ||
                       key == "do_convert_rgb";
    if (key.starts_with("do_") && !known && value.is_bool() && value.as_bool())
      file.refuse(value, key + ": expected false, got true");
  }
}

void read_resize(const ProcessorFile& file, bool clip, ImageSteps& steps) {
  steps.resize_to = clip ? ResizeTo::kShorterSide : ResizeTo::kExactly;
  steps.height = steps.width = 224;
  file.size("size", /*or_shorter=*/true, steps, steps.height, steps.width);
  if (clip && file.flag("use_square_size", false)) steps.resize_to = ResizeTo::kExactly;
  if (steps.resize_to == ResizeTo::kShorterSide && file.flag("default_to_square", false) && file.find("size") &&
      file.find("size")->is_integer())
    steps.resize_to = ResizeTo::kExactly;
  const double code = file.number("resample", static_cast<double>(Resample::kBicubic));
  if (!(code >= 0 && code <= 5) || code != static_cast<int>(code))
    file.refuse(*file.find("resample"),
                "resample: expected Pillow's code of a filter, 0 to 5, got " + file.find("resample")->to_string());
  steps.resample = static_cast<Resample>(static_cast<int>(code));
}

}  // namespace

ImageSteps parse_image_steps(const Json& whole, const std::string& where) {
  const Json* inner = whole.find("image_processor");
  const Json& json = inner && inner->is_object() ? *inner : whole;
  const ProcessorFile file(json, where);
  if (!json.is_object()) file.refuse(json, "expected an object, got " + std::string(io::kind_name(json.kind())));
  const bool clip = kind_of(file, json) == Kind::kClip;
  refuse_unknown_steps(file, json);
  ImageSteps steps;
  if (file.flag("do_resize", true)) read_resize(file, clip, steps);
  if (file.flag("do_center_crop", clip)) {
    if (!clip && !file.find("crop_size")) file.refuse(json, "crop_size: expected a size for the crop, got none");
    steps.crop_height = steps.crop_width = 224;
    file.size("crop_size", /*or_shorter=*/false, steps, steps.crop_height, steps.crop_width);
  }
  if (file.flag("do_rescale", true)) steps.scale = file.number("rescale_factor", 1.0 / 255);
  if (file.flag("do_normalize", true)) {
    using Channels = std::array<double, 3>;
    steps.mean =
        file.channels("image_mean", clip ? Channels{0.48145466, 0.4578275, 0.40821073} : Channels{0.5, 0.5, 0.5});
    steps.std =
        file.channels("image_std", clip ? Channels{0.26862954, 0.26130258, 0.27577711} : Channels{0.5, 0.5, 0.5});
    for (const double deviation : steps.std)
      if (!(deviation > 0)) file.refuse(json, "image_std: expected numbers above 0");
  }
  return steps;
}

ImageSteps read_image_steps(const std::string& path) {
  namespace fs = std::filesystem;
  std::string file = path;
  if (fs::is_directory(path)) {
    file = path + "/preprocessor_config.json";
    if (!fs::exists(file) && fs::exists(path + "/processor_config.json")) file = path + "/processor_config.json";
  }
  return parse_image_steps(io::read_json(file, ExitCode::kWeights), file);
}

}  // namespace vlmamba
