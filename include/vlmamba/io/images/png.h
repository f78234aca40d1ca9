#pragma once

#include <string>

#include "vlmamba/io/images/decode.h"

namespace vlmamba::io {

/// Writes an RGB PNG, as a whole or not at all. Throws Error (io).
void write_png(const std::string& path, const Image& image);

}  // namespace vlmamba::io
