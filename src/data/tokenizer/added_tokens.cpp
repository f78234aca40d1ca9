#include "src/data/tokenizer/added_tokens.h"

#include <algorithm>

namespace vlmamba {
namespace {

bool ends_with_word(std::string_view text) {
  size_t at = text.size();
  return !text.empty() && unicode::is_word(unicode::previous_character(text, at));
}

bool starts_with_word(std::string_view text) {
  size_t at = 0;
  return !text.empty() && unicode::is_word(unicode::next_character(text, at));
}

// Where the spaces begin that end before `end`, not before `limit`.
size_t spaces_before(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    size_t at = end;
    if (unicode::class_of(unicode::previous_character(text, at)) != unicode::Class::kSpace) break;
    end = at;
  }
  return end;
}

size_t spaces_after(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    size_t at = begin;
    if (unicode::class_of(unicode::next_character(text, at)) != unicode::Class::kSpace) break;
    begin = at;
  }
  return begin;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token, std::string_view text) {
  size_t node = 0;
  for (const char c : text) {
    const auto [next, fresh] = nodes_[node].next.try_emplace(static_cast<uint8_t>(c), nodes_.size());
    node = next->second;
    if (fresh) nodes_.emplace_back();
  }
  if (node == 0 || nodes_[node].token != nullptr) return;
  nodes_[node].token = &token;
  begins_[static_cast<uint8_t>(text[0])] = true;
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text, size_t at, size_t& end) const {
  const AddedToken* longest = nullptr;
  size_t node = 0;
  while (at < text.size()) {
    const auto next = nodes_[node].next.find(static_cast<uint8_t>(text[at]));
    if (next == nodes_[node].next.end()) break;
    node = next->second;
    ++at;
    if (nodes_[node].token == nullptr) continue;
    longest = nodes_[node].token;
    end = at;
  }
  return longest;
}

std::vector<TextPart> AddedTokenFinder::split(std::string_view text, bool special_as_text) const {
  std::vector<TextPart> parts;
  size_t plain = 0;  // where the text begins that is in no part yet
  for (size_t at = 0; at < text.size();) {
    size_t end = 0;
    const AddedToken* token = begins_[static_cast<uint8_t>(text[at])] ? longest_at(text, at, end) : nullptr;
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    at = end;  // also behind a match that does not count: its text holds no other
    if (special_as_text && token->special) continue;
    if (token->single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
    if (token->lstrip) begin = std::max(plain, spaces_before(text, begin, std::min(plain, begin)));
    if (token->rstrip) end = spaces_after(text, std::max(plain, end));
    if (plain < begin) parts.push_back({nullptr, text.substr(plain, begin - plain)});
    parts.push_back({token, text.substr(std::min(begin, end), end > begin ? end - begin : 0)});
    plain = end;
  }
  if (plain < text.size()) parts.push_back({nullptr, text.substr(plain)});
  return parts;
}

}  // namespace vlmamba
