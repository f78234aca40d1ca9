#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vlmamba::io {

/// The bytes of base64 text, line breaks and padding allowed; nothing where another character stands.
std::optional<std::string> decode_base64(std::string_view text);

/// The text of bytes, padded.
std::string encode_base64(std::string_view bytes);

}  // namespace vlmamba::io
