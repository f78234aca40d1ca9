#pragma once

#include <array>
#include <cstdint>

#include "vlmamba/core/fields.h"
#include "vlmamba/io/images/decode.h"

namespace vlmamba {

/// Pillow's filters; the values are its codes.
enum class Resample { kNearest = 0, kLanczos = 1, kBilinear = 2, kBicubic = 3, kBox = 4, kHamming = 5 };
constexpr auto enum_names(Resample) {
  return std::array{
      EnumName<Resample>{Resample::kNearest, "nearest"},   EnumName<Resample>{Resample::kLanczos, "lanczos"},
      EnumName<Resample>{Resample::kBilinear, "bilinear"}, EnumName<Resample>{Resample::kBicubic, "bicubic"},
      EnumName<Resample>{Resample::kBox, "box"},           EnumName<Resample>{Resample::kHamming, "hamming"}};
}

/// A part of a picture, in pixels.
struct Window {
  int left = 0, top = 0, width = 0, height = 0;
};

/// The picture at this size, bit for bit as Pillow 12 resizes RGB (Resample.c: antialiased, rows first, 8 bits after
/// each pass; bicubic has a = -0.5).
io::Image resize(const io::Image& image, int width, int height, Resample filter = Resample::kBicubic);

/// The same, but only this part of it is made: what a crop takes of a huge result costs what the crop costs.
io::Image resize(const io::Image& image, int width, int height, Resample filter, const Window& part);

}  // namespace vlmamba
