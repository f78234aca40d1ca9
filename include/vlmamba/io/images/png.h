#pragma once

#include <string>

#include "vlmamba/io/images/decode.h"

namespace vlmamba::io {

/// The bytes of an RGB PNG.
std::string encode_png(const Image& image);

/// Writes an RGB PNG, as a whole or not at all. Throws Error (io).
void write_png(const std::string& path, const Image& image);

}  // namespace vlmamba::io
