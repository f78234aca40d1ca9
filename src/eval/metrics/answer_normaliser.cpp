#include "vlmamba/eval/metrics/answer_normaliser.h"

#include <algorithm>
#include <array>
#include <utility>

#include "vlmamba/eval/metrics/unicode_text.h"

namespace vlmamba {
namespace {

constexpr std::string_view kPunctuation = ";/[]\"{}()=+\\_-><@`,?!";
// The official scripts pass re.UNICODE, which is 32, in the place of the number of replacements.
constexpr int kMostPeriods = 32;

constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kNumbers{{{"none", "0"},
                                                                                  {"zero", "0"},
                                                                                  {"one", "1"},
                                                                                  {"two", "2"},
                                                                                  {"three", "3"},
                                                                                  {"four", "4"},
                                                                                  {"five", "5"},
                                                                                  {"six", "6"},
                                                                                  {"seven", "7"},
                                                                                  {"eight", "8"},
                                                                                  {"nine", "9"},
                                                                                  {"ten", "10"}}};

bool has_comma_in_number(std::string_view text) {
  for (size_t at = text.find(','); at != std::string_view::npos; at = text.find(',', at + 1))
    if (unicode::digit_before(text, at) && unicode::digit_at(text, at + 1)) return true;
  return false;
}

std::string without_periods(std::string_view text) {
  std::string result;
  int removed = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool removable = text[i] == '.' && removed < kMostPeriods && !unicode::digit_at(text, i + 1);
    if (removable)
      ++removed;
    else
      result += text[i];
  }
  return result;
}

// Marks that stand next to a space vanish wherever they are, others become spaces.
std::string without_punctuation(std::string_view text) {
  std::array<bool, 128> vanishes{}, occurs{};
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x80) continue;
    occurs[c] = true;
    if ((i > 0 && text[i - 1] == ' ') || (i + 1 < text.size() && text[i + 1] == ' ')) vanishes[c] = true;
  }
  const bool all_vanish = occurs[','] && has_comma_in_number(text);
  std::string result;
  for (const char c : text) {
    if (kPunctuation.find(c) == std::string_view::npos)
      result += c;
    else if (!all_vanish && !vanishes[static_cast<unsigned char>(c)])
      result += ' ';
  }
  return without_periods(result);
}

std::string_view number_of(std::string_view word) {
  for (const auto& [name, digits] : kNumbers)
    if (word == name) return digits;
  return word;
}

std::string with_plain_words(std::string_view text) {
  const std::string small = unicode::lower(text);
  std::string result;
  bool first = true;
  for (std::string_view word : unicode::split(small)) {
    word = number_of(word);
    if (word == "a" || word == "an" || word == "the") continue;
    const auto contraction = contractions().find(word);
    if (!std::exchange(first, false)) result += ' ';
    result += contraction == contractions().end() ? word : contraction->second;
  }
  return result;
}

}  // namespace

std::string vqa_stripped(std::string_view answer) {
  std::string text(answer);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return std::string(unicode::strip(text));
}

std::string vqa_processed(std::string_view answer) {
  return with_plain_words(without_punctuation(vqa_stripped(answer)));
}

std::string evalai_normalised(std::string_view answer) {
  std::string text = unicode::lower(answer);
  text.erase(std::remove_if(text.begin(), text.end(), [](char c) { return c == ',' || c == '?'; }), text.end());
  text = unicode::replaced(text, "'s", " 's");
  return vqa_processed(unicode::strip(text));
}

}  // namespace vlmamba
