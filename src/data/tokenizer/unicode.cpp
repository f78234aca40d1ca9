#include "src/data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "src/data/tokenizer/unicode_versions.h"

namespace vlmamba::unicode {
namespace {

// The length of the valid UTF-8 character at `at`, or 0 and in `invalid` that of the maximal invalid part.
size_t character_at(std::string_view text, size_t at, size_t& invalid) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : 0; };
  const uint8_t lead = byte(0);
  invalid = 1;
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                        : lead >= 0xe0 && lead <= 0xef ? 3
                        : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                       : 0;
  if (length == 0) return 0;
  for (size_t i = 1; i < length; ++i) {
    uint8_t low = 0x80, high = 0xbf;
    if (i == 1) {
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    }
    if (byte(i) < low || byte(i) > high) {
      invalid = i;
      return 0;
    }
  }
  return length;
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) >= 0x80; });
}

int combining_class(int32_t code_point) { return utf8proc_get_property(code_point)->combining_class; }

// Full decompositions, with marks in canonical order. utf8proc's own sort takes quadratic time on long runs of marks.
std::vector<int32_t> decomposed(std::string_view text, bool compatibility) {
  constexpr size_t kLongest = 32;  // U+FDFA gives 18
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<int32_t> points;
  std::array<int32_t, kLongest> parts{};
  for (size_t at = 0; at < text.size();) {
    const int32_t point = next_character(text, at);
    int boundary = 0;
    const auto count = utf8proc_decompose_char(point, parts.data(), kLongest, options, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(kLongest))
      points.push_back(point);
    else
      points.insert(points.end(), parts.begin(), parts.begin() + count);
  }
  const auto by_class = [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); };
  const auto is_mark = [](int32_t point) { return combining_class(point) != 0; };
  for (auto at = points.begin(); at != points.end();) {
    const auto first = std::find_if(at, points.end(), is_mark);
    at = std::find_if_not(first, points.end(), is_mark);
    std::stable_sort(first, at, by_class);
  }
  return points;
}

void append_normalized(std::string_view text, Form form, std::string& normal) {
  auto points = decomposed(text, form == Form::kNfkc || form == Form::kNfkd);
  auto length = static_cast<utf8proc_ssize_t>(points.size());
  if (form == Form::kNfc || form == Form::kNfkc)
    length = utf8proc_normalize_utf32(points.data(), length,
                                      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  for (utf8proc_ssize_t i = 0; i < length; ++i) normal += utf8(points[static_cast<size_t>(i)]);
}

}  // namespace

std::string utf8(int32_t code_point) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto length = utf8proc_encode_char(code_point, bytes.data());
  return {reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(length)};
}

std::string valid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t invalid = 0;
    const size_t length = character_at(text, at, invalid);
    valid += length > 0 ? text.substr(at, length) : "\xef\xbf\xbd";
    at += length > 0 ? length : invalid;
  }
  return valid;
}

std::string normalized(std::string_view text, Form form) {
  if (is_ascii(text)) return std::string(text);
  std::string normal;
  normal.reserve(text.size());
  size_t begin = 0;  // of what was not normalized yet
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    if (is_normalized(next_character(text, at))) continue;
    append_normalized(text.substr(begin, here - begin), form, normal);
    normal += text.substr(here, at - here);
    begin = at;
  }
  append_normalized(text.substr(begin), form, normal);
  return normal;
}

Class class_of(int32_t c) {
  if (c == 0x85 || (c >= 9 && c <= 13)) return Class::kSpace;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Class::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Class::kNumber;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return Class::kSpace;
    case UTF8PROC_CATEGORY_CN:
      return is_new_letter(c) ? Class::kLetter : is_new_number(c) ? Class::kNumber : Class::kOther;
    default:
      return Class::kOther;
  }
}

bool is_word(int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      break;
  }
  const bool joiner = c == 0x200c || c == 0x200d;
  const bool lettered_symbol = (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
                               (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);  // Alphabetic, but So
  return class_of(c) == Class::kLetter || joiner || lettered_symbol;
}

int32_t next_character(std::string_view text, size_t& at) {
  int32_t point = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &point);
  at += static_cast<size_t>(std::max<utf8proc_ssize_t>(length, 1));
  return point;
}

int32_t previous_character(std::string_view text, size_t& at) {
  do --at;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80);
  size_t from = at;
  return next_character(text, from);
}

}  // namespace vlmamba::unicode
