#include "src/data/tokenizer/byte_level.h"

#include <array>
#include <unordered_map>

namespace vlmamba::byte_level {
namespace {

using unicode::Class;

std::array<std::string, 256> byte_symbols() {
  std::array<std::string, 256> symbols;
  int32_t next = 256;
  for (int32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae);
    symbols[static_cast<size_t>(byte)] = unicode::utf8(printable ? byte : next++);
  }
  return symbols;
}

std::unordered_map<std::string_view, char> symbol_bytes() {
  std::unordered_map<std::string_view, char> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes[symbol_of(static_cast<uint8_t>(byte))] = static_cast<char>(byte);
  return bytes;
}

}  // namespace

const std::string& symbol_of(uint8_t byte) {
  static const auto symbols = byte_symbols();
  return symbols[byte];
}

std::string bytes_of(std::string_view token) {
  static const auto table = symbol_bytes();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const size_t begin = at;
    unicode::next_character(token, at);
    const auto byte = table.find(token.substr(begin, at - begin));
    if (byte == table.end()) return std::string(token);
    bytes += byte->second;
  }
  return bytes;
}

PreTokenizer::PreTokenizer(std::string_view text) : text_(text) {
  characters_.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const int32_t point = unicode::next_character(text, at);
    characters_.push_back({begin, unicode::class_of(point)});
  }
}

bool PreTokenizer::next(std::string_view& piece) {
  if (at_ >= characters_.size()) return false;
  const size_t begin = at_;
  at_ = end_of_piece();
  const size_t from = characters_[begin].begin, to = at_ < characters_.size() ? characters_[at_].begin : text_.size();
  piece = text_.substr(from, to - from);
  return true;
}

size_t PreTokenizer::run(size_t at, Class kind) const {
  while (at < characters_.size() && characters_[at].kind == kind) ++at;
  return at;
}

size_t PreTokenizer::end_of_piece() const {
  const size_t begin = characters_[at_].begin;
  if (text_[begin] == '\'')
    for (const std::string_view suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (text_.substr(begin, suffix.size()) == suffix) return at_ + suffix.size();
  const bool space_first =
      text_[begin] == ' ' && at_ + 1 < characters_.size() && characters_[at_ + 1].kind != Class::kSpace;
  const size_t first = at_ + (space_first ? 1 : 0);
  if (characters_[first].kind != Class::kSpace) return run(first, characters_[first].kind);
  const size_t end = run(at_, Class::kSpace);
  return end < characters_.size() && end - at_ > 1 ? end - 1 : end;  // the last space goes with what follows
}

}  // namespace vlmamba::byte_level
