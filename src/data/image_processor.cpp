#include "vlmamba/data/image_processor.h"

#include <algorithm>
#include <cmath>

namespace vlmamba {
namespace {

using io::Image;

constexpr auto kMaxPixels = static_cast<int64_t>(io::kMaxPixels);

void refuse_if_huge(int64_t width, int64_t height, const char* step) {
  if (width > kMaxPixels / height)
    throw Error(ExitCode::kData, step,
                "expected at most " + std::to_string(kMaxPixels) + " pixels, got " + std::to_string(width) + " x " +
                    std::to_string(height));
}

Image padded_to_square(const Image& in, const std::array<double, 3>& mean) {
  if (in.width == in.height) return in;
  const int side = std::max(in.width, in.height), left = (side - in.width) / 2, top = (side - in.height) / 2;
  refuse_if_huge(side, side, "padding to a square");
  Image out{side, side, {}};
  std::array<uint8_t, 3> colour{};
  for (size_t c = 0; c < 3; ++c) colour[c] = static_cast<uint8_t>(std::clamp(mean[c] * 255, 0.0, 255.0));
  out.rgb.reserve(static_cast<size_t>(side) * static_cast<size_t>(side) * 3);
  for (int64_t i = 0; i < int64_t{side} * side; ++i) out.rgb.insert(out.rgb.end(), colour.begin(), colour.end());
  for (int y = 0; y < in.height; ++y)
    std::copy_n(in.rgb.begin() + static_cast<std::ptrdiff_t>(y) * in.width * 3, in.width * 3,
                out.rgb.begin() + (static_cast<std::ptrdiff_t>(top + y) * side + left) * 3);
  return out;
}

struct Size {
  int64_t width, height;
};

Size size_after_resize(const ImageSteps& steps, const Image& image) {
  switch (steps.resize_to) {
    case ResizeTo::kNone:
      break;
    case ResizeTo::kExactly:
      return {steps.width, steps.height};
    case ResizeTo::kShorterSide:
      if (image.width <= image.height) return {steps.width, steps.width * image.height / image.width};
      return {steps.width * image.width / image.height, steps.width};
  }
  return {image.width, image.height};
}

// Where a crop of `want` begins in a side of `have`: before it where there is too little.
int64_t crop_start(int64_t have, int64_t want) {
  const int64_t margin = have - want;
  return margin >= 0 ? margin / 2 : -((1 - margin) / 2);
}

}  // namespace

ImageSteps image_steps(const ImageProcessorConfig& config) {
  ImageSteps steps;
  const bool squash = config.mode == ImageMode::kSquash;
  steps.pad_to_square = config.mode == ImageMode::kPad;
  steps.resize_to = squash ? ResizeTo::kExactly : ResizeTo::kShorterSide;
  steps.height = steps.width = squash || config.resize == 0 ? config.size : config.resize;
  if (!squash) steps.crop_height = steps.crop_width = config.size;
  steps.scale = 1.0 / 255;
  steps.mean = config.mean;
  steps.std = config.std;
  return steps;
}

ImageProcessor::ImageProcessor(const ImageSteps& steps) : steps_(steps), value_of_() {
  for (size_t c = 0; c < 3; ++c) {
    const auto mean = static_cast<float>(steps.mean[c]), deviation = static_cast<float>(steps.std[c]);
    for (size_t value = 0; value < 256; ++value)
      value_of_[c][value] = (static_cast<float>(static_cast<double>(value) * steps.scale) - mean) / deviation;
  }
}

Pixels ImageProcessor::pixels(const Image& original) const {
  const Image& image = steps_.pad_to_square ? padded_to_square(original, steps_.mean) : original;
  const Size size = size_after_resize(steps_, image);
  const int64_t height = steps_.crop_height > 0 ? steps_.crop_height : size.height;
  const int64_t width = steps_.crop_width > 0 ? steps_.crop_width : size.width;
  refuse_if_huge(width, height, "resizing");
  const int64_t top = crop_start(size.height, height), left = crop_start(size.width, width);
  // Only what the crop takes of the resized picture is made.
  const Window part{static_cast<int>(std::max<int64_t>(left, 0)), static_cast<int>(std::max<int64_t>(top, 0)),
                    static_cast<int>(std::min(size.width, width)), static_cast<int>(std::min(size.height, height))};
  const Image resized =
      resize(image, static_cast<int>(size.width), static_cast<int>(size.height), steps_.resample, part);
  const auto inside_left = static_cast<size_t>(part.left - left), inside_top = static_cast<size_t>(part.top - top);
  Pixels pixels{static_cast<int>(height), static_cast<int>(width), {}};
  pixels.values.reserve(static_cast<size_t>(3 * height * width));
  const auto row_size = static_cast<size_t>(width);
  for (size_t c = 0; c < 3; ++c) {
    pixels.values.resize((c + 1) * static_cast<size_t>(height) * row_size, value_of_[c][0]);
    const uint8_t* from = resized.rgb.data() + c;
    for (size_t y = 0; y < static_cast<size_t>(part.height); ++y) {
      float* to = pixels.values.data() + (c * static_cast<size_t>(height) + inside_top + y) * row_size + inside_left;
      for (int x = 0; x < part.width; ++x, from += 3) *to++ = value_of_[c][*from];
    }
  }
  return pixels;
}

Image ImageProcessor::image(const std::vector<float>& values) const {
  const auto area = values.size() / 3;
  const int side = static_cast<int>(std::lround(std::sqrt(static_cast<double>(area))));
  Image image{side, side, std::vector<uint8_t>(values.size())};
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < area; ++i) {
      const double value = (values[c * area + i] * steps_.std[c] + steps_.mean[c]) / steps_.scale;
      image.rgb[3 * i + c] = static_cast<uint8_t>(std::clamp(std::lround(value), 0L, 255L));
    }
  return image;
}

}  // namespace vlmamba
