#pragma once

#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba::io {

/// The JSON of a safetensors header, read event by event: a header of many tiny values never becomes a tree. Offsets
/// stay as in the file, counted from the end of the header. Throws Error (weights).
WeightTable parse_safetensors_header(std::string_view json, const std::string& where);

}  // namespace vlmamba::io
