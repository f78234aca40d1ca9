#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vlmamba::unicode {

/// A code point as UTF-8.
std::string utf8(int32_t code_point);

/// The text with U+FFFD for each maximal part that is no UTF-8 (Unicode's recommended practice, and Rust's).
std::string valid_utf8(std::string_view text);

enum class Form { kNfc, kNfd, kNfkc, kNfkd };

/// A normalization form of valid UTF-8, in time n log n for any run of marks.
std::string normalized(std::string_view text, Form form);

enum class Class { kLetter, kNumber, kSpace, kOther };
/// What \p{L}, \p{N} and \s of a regular expression say.
Class class_of(int32_t code_point);

/// What \w says.
bool is_word(int32_t code_point);

/// Decodes the character at `at` of valid UTF-8 and moves on to the next.
int32_t next_character(std::string_view text, size_t& at);
/// Moves `at` back by one character, and decodes that.
int32_t previous_character(std::string_view text, size_t& at);

}  // namespace vlmamba::unicode
