#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/data/tokenizer/unicode.h"

/// GPT-2's two ideas: any byte is a printable symbol, and words are cut by one pattern.
namespace vlmamba::byte_level {

/// The symbol of a byte: printable bytes stand for themselves, the others for U+0100 and on.
const std::string& symbol_of(uint8_t byte);

/// The bytes that a token's symbols stand for; the token itself if one of its characters is no symbol, as HF does.
std::string bytes_of(std::string_view token);

/// Cuts text by GPT-2's pattern:
/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
class PreTokenizer {
 public:
  explicit PreTokenizer(std::string_view text);
  /// False at the end.
  bool next(std::string_view& piece);

 private:
  struct Character {
    size_t begin;
    unicode::Class kind;
  };
  size_t run(size_t at, unicode::Class kind) const;
  size_t end_of_piece() const;

  std::string_view text_;
  std::vector<Character> characters_;
  size_t at_ = 0;
};

}  // namespace vlmamba::byte_level
