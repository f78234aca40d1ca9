#include "vlmamba/infer/text_stream.h"

#include <string_view>

namespace vlmamba {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string TextStream::add(int64_t id) {
  waiting_.push_back(id);
  std::string text = tokenizer_.decode(waiting_);
  // The last character may be one that the next ids complete.
  if (text.ends_with(kReplacement)) return "";
  waiting_.clear();
  return shown(std::move(text));
}

std::string TextStream::finish() {
  std::string text = tokenizer_.decode(waiting_);
  waiting_.clear();
  return shown(std::move(text));
}

std::string TextStream::shown(std::string text) {
  if (begun_) return text;
  const auto first = text.find_first_not_of(" \n");
  if (first == std::string::npos) return "";
  begun_ = true;
  return text.substr(first);
}

}  // namespace vlmamba
