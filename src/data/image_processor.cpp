#include "vlmamba/data/image_processor.h"

#include <algorithm>
#include <cmath>

namespace vlmamba {
namespace {

using io::Image;

constexpr int kPrecision = 22;  // bits behind the point of a weight
constexpr double kSupport = 2;

double keys_cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// What one output pixel is made of.
struct Taps {
  int first;
  std::vector<int> weights;
};

std::vector<Taps> taps_for(int in, int out) {
  const double scale = static_cast<double>(in) / out, filter = std::max(scale, 1.0), support = kSupport * filter;
  std::vector<Taps> all;
  for (int o = 0; o < out; ++o) {
    const double centre = (o + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int last = std::min(in, static_cast<int>(centre + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int i = first; i < last; ++i) sum += weights.emplace_back(keys_cubic((i - centre + 0.5) / filter));
    Taps taps{first, {}};
    for (const double weight : weights) {
      const double fixed = (sum != 0 ? weight / sum : weight) * (1 << kPrecision);
      taps.weights.push_back(static_cast<int>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
    all.push_back(std::move(taps));
  }
  return all;
}

uint8_t weighted(const Taps& taps, const uint8_t* pixels, size_t stride) {
  int64_t sum = 1 << (kPrecision - 1);
  for (const int weight : taps.weights) {
    sum += static_cast<int64_t>(weight) * *pixels;
    pixels += stride;
  }
  return static_cast<uint8_t>(std::clamp<int64_t>(sum >> kPrecision, 0, 255));
}

Image resize_rows(const Image& in, int width) {
  Image out{width, in.height, std::vector<uint8_t>(static_cast<size_t>(width) * static_cast<size_t>(in.height) * 3)};
  const auto taps = taps_for(in.width, width);
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < in.height; ++y) {
    const uint8_t* row = in.rgb.data() + static_cast<size_t>(y) * static_cast<size_t>(in.width) * 3;
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        *to++ = weighted(taps[static_cast<size_t>(x)], row + 3 * taps[static_cast<size_t>(x)].first + c, 3);
  }
  return out;
}

Image resize_columns(const Image& in, int height) {
  const size_t row = static_cast<size_t>(in.width) * 3;
  Image out{in.width, height, std::vector<uint8_t>(row * static_cast<size_t>(height))};
  const auto taps = taps_for(in.height, height);
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < height; ++y)
    for (size_t x = 0; x < row; ++x)
      *to++ = weighted(taps[static_cast<size_t>(y)],
                       in.rgb.data() + static_cast<size_t>(taps[static_cast<size_t>(y)].first) * row + x, row);
  return out;
}

// The picture in the middle of a square of this colour (LLaVA's expand2square).
Image padded_to_square(const Image& in, const std::array<double, 3>& mean) {
  if (in.width == in.height) return in;
  const int side = std::max(in.width, in.height), left = (side - in.width) / 2, top = (side - in.height) / 2;
  Image out{side, side, {}};
  std::array<uint8_t, 3> colour{};
  for (size_t c = 0; c < 3; ++c) colour[c] = static_cast<uint8_t>(mean[c] * 255);
  out.rgb.reserve(static_cast<size_t>(side) * static_cast<size_t>(side) * 3);
  for (int i = 0; i < side * side; ++i) out.rgb.insert(out.rgb.end(), colour.begin(), colour.end());
  for (int y = 0; y < in.height; ++y)
    std::copy_n(in.rgb.begin() + static_cast<std::ptrdiff_t>(y) * in.width * 3, in.width * 3,
                out.rgb.begin() + (static_cast<std::ptrdiff_t>(top + y) * side + left) * 3);
  return out;
}

Image resize_shorter_side(const Image& in, int64_t size) {
  const auto other = [&](int64_t length, int64_t shorter) { return static_cast<int>(size * length / shorter); };
  return in.width <= in.height ? resize_bicubic(in, static_cast<int>(size), other(in.height, in.width))
                               : resize_bicubic(in, other(in.width, in.height), static_cast<int>(size));
}

}  // namespace

Image resize_bicubic(const Image& image, int width, int height) {
  if (width == image.width) return height == image.height ? image : resize_columns(image, height);
  const Image narrow = resize_rows(image, width);
  return height == image.height ? narrow : resize_columns(narrow, height);
}

std::vector<float> ImageProcessor::process(const Image& original) const {
  const auto size = static_cast<int>(config_.size);
  Image image = config_.mode == ImageMode::kPad ? padded_to_square(original, config_.mean) : original;
  image = config_.mode == ImageMode::kSquash
              ? resize_bicubic(image, size, size)
              : resize_shorter_side(image, config_.resize > 0 ? config_.resize : config_.size);
  // The centre of the picture; what lies outside of it is black before the normalisation.
  const auto floor_half = [](int margin) { return margin >= 0 ? margin / 2 : -((1 - margin) / 2); };
  const int top = floor_half(image.height - size), left = floor_half(image.width - size);
  std::vector<float> pixels(static_cast<size_t>(3 * size * size));
  float* to = pixels.data();
  for (size_t c = 0; c < 3; ++c) {
    const auto mean = static_cast<float>(config_.mean[c]), deviation = static_cast<float>(config_.std[c]);
    for (int y = top; y < top + size; ++y)
      for (int x = left; x < left + size; ++x) {
        const bool inside = y >= 0 && y < image.height && x >= 0 && x < image.width;
        const int value =
            inside
                ? image
                      .rgb[(static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x)) * 3 + c]
                : 0;
        *to++ = (static_cast<float>(value * (1.0 / 255)) - mean) / deviation;
      }
  }
  return pixels;
}

}  // namespace vlmamba
