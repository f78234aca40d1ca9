#include "vlmamba/data/resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace vlmamba {
namespace {

using io::Image;

constexpr int kPrecision = 22;  // bits behind the point of a weight

double sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

// Keys' kernel with a = -0.5.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double hamming(double x) {
  x = std::abs(x);
  if (x == 0) return 1;
  if (x >= 1) return 0;
  x *= std::numbers::pi;
  return std::sin(x) / x * (0.54 + 0.46 * std::cos(x));
}

double kernel(Resample filter, double x) {
  switch (filter) {
    case Resample::kBox:
      return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Resample::kBilinear:
      return std::max(0.0, 1 - std::abs(x));
    case Resample::kHamming:
      return hamming(x);
    case Resample::kLanczos:
      return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    default:
      return bicubic(x);
  }
}

double support_of(Resample filter) {
  switch (filter) {
    case Resample::kBox:
      return 0.5;
    case Resample::kBilinear:
    case Resample::kHamming:
      return 1;
    case Resample::kLanczos:
      return 3;
    default:
      return 2;
  }
}

// What one output pixel is made of.
struct Taps {
  int first = 0;
  std::vector<int> weights;
};

// The taps of the output pixels [begin, begin + count) of `out`.
std::vector<Taps> taps_for(int in, int out, Resample filter, int begin, int count) {
  const double scale = static_cast<double>(in) / out, stretch = std::max(scale, 1.0), inverse = 1.0 / stretch;
  const double support = support_of(filter) * stretch;
  std::vector<Taps> all;
  std::vector<double> weights;
  for (int o = begin; o < begin + count; ++o) {
    const double centre = (o + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int last = std::min(in, static_cast<int>(centre + support + 0.5));
    double sum = 0;
    weights.clear();
    for (int i = first; i < last; ++i) sum += weights.emplace_back(kernel(filter, (i - centre + 0.5) * inverse));
    Taps& taps = all.emplace_back(Taps{first, {}});
    for (const double weight : weights) {
      const double fixed = (sum != 0 ? weight / sum : weight) * (1 << kPrecision);
      taps.weights.push_back(static_cast<int>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return all;
}

uint8_t rounded(int64_t sum) {
  return static_cast<uint8_t>(std::clamp<int64_t>((sum + (1 << (kPrecision - 1))) >> kPrecision, 0, 255));
}

// Columns [part.left, …) at `width` of the rows [part.top, …).
Image resize_rows(const Image& in, int width, Resample filter, const Window& part) {
  const auto taps = taps_for(in.width, width, filter, part.left, part.width);
  Image out{part.width, part.height, {}};
  out.rgb.reserve(static_cast<size_t>(part.width) * static_cast<size_t>(part.height) * 3);
  for (int y = part.top; y < part.top + part.height; ++y) {
    const uint8_t* row = in.rgb.data() + static_cast<size_t>(y) * static_cast<size_t>(in.width) * 3;
    for (const Taps& tap : taps) {
      const uint8_t* pixel = row + 3 * tap.first;
      int64_t red = 0, green = 0, blue = 0;
      for (const int64_t weight : tap.weights) {
        red += weight * pixel[0];
        green += weight * pixel[1];
        blue += weight * pixel[2];
        pixel += 3;
      }
      out.rgb.insert(out.rgb.end(), {rounded(red), rounded(green), rounded(blue)});
    }
  }
  return out;
}

// Of rows that begin at `top` of the whole picture.
Image resize_columns(const Image& in, const std::vector<Taps>& taps, int top) {
  const size_t row = static_cast<size_t>(in.width) * 3;
  Image out{in.width, static_cast<int>(taps.size()), {}};
  out.rgb.reserve(row * taps.size());
  std::vector<int64_t> sums(row);
  for (const Taps& tap : taps) {
    std::fill(sums.begin(), sums.end(), 0);
    const uint8_t* from = in.rgb.data() + static_cast<size_t>(tap.first - top) * row;
    for (const int64_t weight : tap.weights)
      for (size_t x = 0; x < row; ++x) sums[x] += weight * *from++;
    for (const int64_t sum : sums) out.rgb.push_back(rounded(sum));
  }
  return out;
}

Image cropped(const Image& in, const Window& part) {
  if (part.left == 0 && part.top == 0 && part.width == in.width && part.height == in.height) return in;
  Image out{part.width, part.height, {}};
  out.rgb.reserve(static_cast<size_t>(part.width) * static_cast<size_t>(part.height) * 3);
  for (int y = part.top; y < part.top + part.height; ++y) {
    const uint8_t* from =
        in.rgb.data() + (static_cast<size_t>(y) * static_cast<size_t>(in.width) + static_cast<size_t>(part.left)) * 3;
    out.rgb.insert(out.rgb.end(), from, from + static_cast<std::ptrdiff_t>(part.width) * 3);
  }
  return out;
}

// The pixel that each output pixel is; Pillow adds the step up, and so must this.
std::vector<int> nearest(int in, int out, int begin, int count) {
  const double step = static_cast<double>(in) / out;
  std::vector<int> places;
  double at = step * 0.5;
  for (int o = 0; o < begin + count; ++o, at += step)
    if (o >= begin) places.push_back(std::min(static_cast<int>(at), in - 1));
  return places;
}

Image resize_nearest(const Image& in, int width, int height, const Window& part) {
  const auto columns = nearest(in.width, width, part.left, part.width);
  Image out{part.width, part.height, {}};
  out.rgb.reserve(static_cast<size_t>(part.width) * static_cast<size_t>(part.height) * 3);
  for (const int y : nearest(in.height, height, part.top, part.height)) {
    const uint8_t* row = in.rgb.data() + static_cast<size_t>(y) * static_cast<size_t>(in.width) * 3;
    for (const int x : columns) out.rgb.insert(out.rgb.end(), row + 3 * x, row + 3 * x + 3);
  }
  return out;
}

}  // namespace

Image resize(const Image& image, int width, int height, Resample filter) {
  return resize(image, width, height, filter, {0, 0, width, height});
}

Image resize(const Image& image, int width, int height, Resample filter, const Window& part) {
  if (width == image.width && height == image.height) return cropped(image, part);
  if (filter == Resample::kNearest) return resize_nearest(image, width, height, part);
  Window rows{part.left, part.top, part.width, part.height};  // of the picture after the first pass
  std::vector<Taps> taps;
  if (height != image.height) {
    taps = taps_for(image.height, height, filter, part.top, part.height);
    rows.top = taps.front().first;
    int end = 0;
    for (const Taps& tap : taps) end = std::max(end, tap.first + static_cast<int>(tap.weights.size()));
    rows.height = end - rows.top;
  }
  const Image narrow = width == image.width ? cropped(image, rows) : resize_rows(image, width, filter, rows);
  return height == image.height ? narrow : resize_columns(narrow, taps, rows.top);
}

}  // namespace vlmamba
