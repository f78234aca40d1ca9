#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/data/resize.h"
#include "vlmamba/io/images/decode.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

enum class ImageMode { kSquash, kCrop, kPad };
constexpr auto enum_names(ImageMode) {
  return std::array{EnumName<ImageMode>{ImageMode::kSquash, "squash"}, EnumName<ImageMode>{ImageMode::kCrop, "crop"},
                    EnumName<ImageMode>{ImageMode::kPad, "pad"}};
}

/// How a picture becomes a square of numbers. The defaults are google/siglip-so400m-patch14-384.
struct ImageProcessorConfig {
  int64_t size = 384;
  int64_t resize = 0;
  ImageMode mode = ImageMode::kSquash;
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> std{0.5, 0.5, 0.5};

  template <typename F>
  void visit(F& f) {
    f("size", size, "pixels per side that the encoder takes", Range{1, kMostPixels});
    f("resize", resize, "the shorter side before the crop; 0: size (modes crop and pad)", Range{0, kMostPixels});
    f("mode", mode,
      "squash: resize to the square; crop: shorter side, then centre; pad: to a square on the mean first");
    f("mean", mean, "of each channel, in 0 .. 1");
    f("std", std, "of each channel, in 0 .. 1", Range{1e-6});
  }
};

enum class ResizeTo { kNone, kShorterSide, kExactly };

/// What happens to a picture, in this order.
struct ImageSteps {
  bool pad_to_square = false;  ///< in the middle of a square of the mean's colour (LLaVA's expand2square)
  ResizeTo resize_to = ResizeTo::kNone;
  int64_t height = 0, width = 0;  ///< both the shorter side of kShorterSide
  Resample resample = Resample::kBicubic;
  int64_t crop_height = 0, crop_width = 0;  ///< of the centre, black where the picture ends; 0: no crop
  double scale = 1;                         ///< that pixels of 0 .. 255 are multiplied by
  std::array<double, 3> mean{0, 0, 0};      ///< of each channel, subtracted then
  std::array<double, 3> std{1, 1, 1};       ///< of each channel, divided by then
};

ImageSteps image_steps(const ImageProcessorConfig& config);

/// The steps of a preprocessor_config.json of CLIP or SigLIP, or of the processor_config.json around one: every key
/// that changes pixels, defaults as in transformers, sizes in all their forms. `path` may be the folder. Throws Error
/// (weights) for other processors, for values that are none, and for steps that these two do not have.
ImageSteps read_image_steps(const std::string& path);
ImageSteps parse_image_steps(const io::Json& json, const std::string& where);

/// Channels first: [3, height, width].
struct Pixels {
  int height = 0, width = 0;
  std::vector<float> values;
};

/// The picture as the encoder takes it, as the CLIP and SigLIP processors of transformers (PIL backend) compute it.
class ImageProcessor {
 public:
  explicit ImageProcessor(const ImageProcessorConfig& config) : ImageProcessor(image_steps(config)) {}
  explicit ImageProcessor(const ImageSteps& steps);

  /// Throws Error (data) where a picture would grow beyond 178,956,970 pixels.
  Pixels pixels(const io::Image& image) const;
  /// The values alone.
  std::vector<float> process(const io::Image& image) const { return pixels(image).values; }
  /// The picture that these square values stand for, to be looked at.
  io::Image image(const std::vector<float>& values) const;
  /// Pixels per side of a square result.
  int64_t size() const { return steps_.crop_width > 0 ? steps_.crop_width : steps_.width; }

 private:
  ImageSteps steps_;
  std::array<std::array<float, 256>, 3> value_of_;  // by channel and 8-bit pixel
};

}  // namespace vlmamba
