#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/data/tokenizer.h"

namespace vlmamba {

/// The text of an answer while its ids arrive: whole characters only, whose bytes may be those of several ids. All that
/// it gives, one behind the other, is what the tokenizer gives for all ids, without leading white space.
class TextStream {
 public:
  /// `tokenizer` must outlive it.
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// What can be shown now; perhaps nothing.
  std::string add(int64_t id);
  /// What is left when no id follows: bytes that are no character become U+FFFD.
  std::string finish();

 private:
  std::string shown(std::string text);

  const Tokenizer& tokenizer_;
  std::vector<int64_t> waiting_;
  bool begun_ = false;  // was anything but white space given?
};

}  // namespace vlmamba
