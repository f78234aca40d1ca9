#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba {

/// Byte-level BPE as Hugging Face's `tokenizer.json` describes it (the GPT-2 and GPT-NeoX family): added tokens with
/// their flags, a Unicode normalization, GPT-2's pre-tokenizer, merges by rank. Gives the ids that Python's
/// `tokenizers` gives with add_special_tokens=False, in time n log n for any text; truncation, padding and templates of
/// the file are not applied.
class Tokenizer {
 public:
  /// Reads tokenizer.json, or the one in a folder. Throws Error (weights) for anything that is not this kind.
  static Tokenizer load(const std::string& path);
  /// The same from the text of a tokenizer.json; `where` names it in messages.
  static Tokenizer parse(std::string text, const std::string& where);

  /// Text (UTF-8; invalid bytes become U+FFFD) to ids. `special`: special tokens in the text become their ids, as HF
  /// does by default; otherwise they are plain text.
  std::vector<int64_t> encode(std::string_view text, bool special = true) const;

  /// Ids to text; bytes that are no UTF-8 become U+FFFD, one for each maximal invalid part. Unknown ids are left out.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = true) const;

  /// The id of `<|endoftext|>`. Throws Error (weights) where there is none.
  int64_t end_of_text_id() const;
  /// The id of `<|padding|>`, or that of the end of text.
  int64_t pad_id() const;
  /// The largest id and one.
  int64_t vocab_size() const;
  /// The file as it was read, to be kept beside weights.
  const std::string& json_text() const;

 private:
  struct Tables;
  std::shared_ptr<const Tables> tables_;
};

}  // namespace vlmamba
