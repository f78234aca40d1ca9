#include "vlmamba/eval/metrics/unicode_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

namespace vlmamba::unicode {
namespace {

constexpr int32_t kCapitalSigma = 0x3A3, kSmallSigma = 0x3C3, kFinalSigma = 0x3C2, kCapitalIWithDot = 0x130;

struct CodePoint {
  int32_t value;
  size_t bytes;
};

CodePoint read(std::string_view text, size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return {first, 1};
  utf8proc_int32_t value = -1;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                      static_cast<utf8proc_ssize_t>(text.size() - at), &value);
  return bytes < 1 ? CodePoint{-1, 1} : CodePoint{value, static_cast<size_t>(bytes)};
}

size_t start_before(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

void append(std::string& text, int32_t value) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto count = utf8proc_encode_char(value, bytes.data());
  text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(count));
}

bool is_space(int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_digit(int32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x80; });
}

bool is_cased(int32_t c) {
  const auto category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT ||
         utf8proc_tolower(c) != c || utf8proc_toupper(c) != c || c == 0xAA || c == 0xBA;
}

// What stands between a letter and its neighbour without parting them: marks, modifiers, and the middles of words.
bool is_case_ignorable(int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x55F || c == 0x5F4 || c == 0x2018 ||
             c == 0x2019 || c == 0x2024 || c == 0x2027;
  }
}

// A sigma ends its word if a cased letter stands before it and none behind.
bool is_final_sigma(std::string_view text, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(read(text, start_before(text, before)).value))
    before = start_before(text, before);
  if (before == 0 || !is_cased(read(text, start_before(text, before)).value)) return false;
  size_t behind = at + read(text, at).bytes;
  while (behind < text.size() && is_case_ignorable(read(text, behind).value)) behind += read(text, behind).bytes;
  return behind >= text.size() || !is_cased(read(text, behind).value);
}

}  // namespace

std::string lower(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  if (is_ascii(text)) {
    for (const char c : text) result += c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    return result;
  }
  for (size_t at = 0; at < text.size();) {
    const auto [value, bytes] = read(text, at);
    if (value < 0)
      result.append(text.substr(at, bytes));
    else if (value == kCapitalSigma)
      append(result, is_final_sigma(text, at) ? kFinalSigma : kSmallSigma);
    else if (value == kCapitalIWithDot)
      result += "i\xCC\x87";
    else
      append(result, utf8proc_tolower(value));
    at += bytes;
  }
  return result;
}

std::string_view strip(std::string_view text) {
  while (!text.empty()) {
    const auto [value, bytes] = read(text, 0);
    if (!is_space(value)) break;
    text.remove_prefix(bytes);
  }
  while (!text.empty()) {
    const size_t start = start_before(text, text.size());
    if (!is_space(read(text, start).value)) break;
    text = text.substr(0, start);
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [value, bytes] = read(text, at);
    if (is_space(value)) {
      if (at > start) words.push_back(text.substr(start, at - start));
      start = at + bytes;
    }
    at += bytes;
  }
  if (start < text.size()) words.push_back(text.substr(start));
  return words;
}

int64_t length(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; });
}

bool digit_at(std::string_view text, size_t at) { return at < text.size() && is_digit(read(text, at).value); }

bool digit_before(std::string_view text, size_t at) { return at > 0 && digit_at(text, start_before(text, at)); }

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string_view::npos; at = found + from.size()) {
    result.append(text.substr(at, found - at));
    result.append(to);
  }
  return result.append(text.substr(at));
}

}  // namespace vlmamba::unicode
