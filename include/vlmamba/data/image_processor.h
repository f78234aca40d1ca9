#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
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
    f("size", size, "pixels per side that the encoder takes", Range{1});
    f("resize", resize, "the shorter side before the crop; 0: size (modes crop and pad)", Range{0});
    f("mode", mode,
      "squash: resize to the square; crop: shorter side, then centre; pad: to a square on the mean first");
    f("mean", mean, "of each channel, in 0 .. 1");
    f("std", std, "of each channel, in 0 .. 1", Range{1e-6});
  }
};

/// Pillow's bicubic resize (Pillow 12, Resample.c): a = -0.5, antialiased, rows first, 8 bits after each pass.
io::Image resize_bicubic(const io::Image& image, int width, int height);

/// The picture as the encoder takes it, as the CLIP and SigLIP processors of transformers (PIL backend) compute it.
class ImageProcessor {
 public:
  explicit ImageProcessor(const ImageProcessorConfig& config) : config_(config) {}

  /// [3, size, size], channels first.
  std::vector<float> process(const io::Image& image) const;
  int64_t size() const { return config_.size; }

 private:
  ImageProcessorConfig config_;
};

}  // namespace vlmamba
