#pragma once

#include <string>
#include <string_view>

#include "vlmamba/io/mapped_file.h"

namespace vlmamba::io {

/// SHA-256 in hexadecimal.
std::string sha256(std::string_view bytes);
/// The same of a file's bytes; pages are given back as they are read.
std::string sha256(const MappedFile& file);

}  // namespace vlmamba::io
