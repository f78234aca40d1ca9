#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vlmamba::io {

/// Bytes as base64 with padding, on one line.
std::string encode_base64(std::string_view bytes);

/// The bytes of base64 text, line breaks and padding allowed; nothing where another character stands.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace vlmamba::io
