#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/data/tokenizer/unicode.h"

namespace vlmamba {

/// A token that is found in the text as a whole, before any merge. The flags are HF's.
struct AddedToken {
  std::string text;
  int64_t id = 0;
  bool special = false;                 ///< can be left out of decoded text, and be taken as plain text
  bool normalized = false;              ///< is looked for after the normalization, itself normalized
  bool single_word = false;             ///< not within a word
  bool lstrip = false, rstrip = false;  ///< takes the spaces before, behind
};

/// A part of a text: an added token, or plain text where `token` is null.
struct TextPart {
  const AddedToken* token;
  std::string_view text;
};

/// Cuts texts at added tokens, leftmost and longest first.
class AddedTokenFinder {
 public:
  /// Keeps a pointer to the token, looked for as `text`; the first of equal texts counts.
  void add(const AddedToken& token, std::string_view text);

  /// `special_as_text`: special tokens are found, and left as plain text.
  std::vector<TextPart> split(std::string_view text, bool special_as_text) const;

 private:
  struct Node {
    std::map<uint8_t, size_t> next;
    const AddedToken* token = nullptr;
  };
  const AddedToken* longest_at(std::string_view text, size_t at, size_t& end) const;

  std::vector<Node> nodes_{1};
  std::array<bool, 256> begins_{};  // whether a token begins with this byte
};

}  // namespace vlmamba
