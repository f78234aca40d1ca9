#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::io {

/// An RGB picture, 8 bits a channel, row by row.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

/// The largest picture that Pillow opens: a few kilobytes can claim to be any size.
constexpr uint64_t kMaxPixels = 178'956'970;

/// JPEG, PNG, WEBP or GIF by the first bytes; empty for anything else.
std::string_view image_format(std::string_view bytes);

/// Decodes JPEG, PNG, WebP or GIF, told apart by content, to what Pillow's convert("RGB") gives: alpha dropped without
/// compositing, palettes applied, grey replicated, 16-bit grey clipped to 255, CMYK by Pillow's formula, the first
/// frame of an animation, EXIF orientation ignored. Throws Error (data) naming `where` for anything damaged or
/// truncated, and for more than `max_pixels`.
Image decode_image(std::string_view bytes, const std::string& where, uint64_t max_pixels = kMaxPixels);
Image read_image(const std::string& path);

}  // namespace vlmamba::io
