#pragma once

#include <string>
#include <string_view>

#include "vlmamba/io/images/decode.h"

namespace vlmamba::io {

Image decode_jpeg(std::string_view bytes, const std::string& where, uint64_t max_pixels);
Image decode_png(std::string_view bytes, const std::string& where, uint64_t max_pixels);
Image decode_webp(std::string_view bytes, const std::string& where, uint64_t max_pixels);
Image decode_gif(std::string_view bytes, const std::string& where, uint64_t max_pixels);

/// An empty picture of this size. Throws Error (data) unless it has 1 to `max_pixels` pixels.
Image new_image(uint64_t width, uint64_t height, const std::string& where, uint64_t max_pixels);

[[noreturn]] void refuse_image(const std::string& where, const std::string& message);

}  // namespace vlmamba::io
