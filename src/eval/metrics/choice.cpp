#include "vlmamba/eval/metrics/choice.h"

#include <algorithm>
#include <array>

#include "vlmamba/eval/metrics/unicode_text.h"

namespace vlmamba {
namespace {

constexpr std::array<std::string_view, 4> kRefusals{
    "Sorry, I can't help with images of people yet.", "I can't process this file.",
    "I'm sorry, but without the image provided", "Cannot determine the answer"};
constexpr std::string_view kNoAnswer = "Failed to obtain answer via API";
constexpr size_t kLastWords = 4;

bool is_scienceqa_option(char c) { return c >= 'A' && c <= 'E'; }

// By words: a letter; 'Z' for a refusal; nothing.
std::optional<char> by_letter(std::string_view answer, size_t num_options) {
  if (answer.find(kNoAnswer) != std::string_view::npos) return std::nullopt;
  for (const auto refusal : kRefusals)
    if (answer.find(refusal) != std::string_view::npos) return 'Z';
  std::string spaced(answer);
  std::replace_if(
      spaced.begin(), spaced.end(),
      [](char c) { return std::string_view(".()[],:;!*#{}").find(c) != std::string_view::npos; }, ' ');
  const auto words = unicode::split(spaced);
  const auto first_of = [&](char letter) {
    return static_cast<size_t>(std::find(words.begin(), words.end(), std::string_view(&letter, 1)) - words.begin());
  };
  std::optional<char> found;
  for (size_t i = 0; i < num_options; ++i) {
    const char letter = static_cast<char>('A' + i);
    if (first_of(letter) == words.size()) continue;
    if (found) return std::nullopt;
    found = letter;
  }
  if (found) return first_of(*found) + kLastWords >= words.size() ? found : std::nullopt;
  return first_of('Z') < words.size() ? std::optional('Z') : std::nullopt;
}

std::optional<char> by_text(std::string_view answer, const std::vector<std::string>& options) {
  const std::string small = unicode::lower(answer);
  int64_t total = 0;
  for (const auto& option : options) total += unicode::length(option);
  if (unicode::length(small) > 2 * total) return std::nullopt;
  std::optional<char> found;
  for (size_t i = 0; i < options.size(); ++i) {
    if (small.find(unicode::lower(options[i])) == std::string::npos) continue;
    if (found) return std::nullopt;
    found = static_cast<char>('A' + i);
  }
  return found;
}

}  // namespace

std::optional<char> scienceqa_letter(std::string_view answer) {
  constexpr std::string_view kPhrase = "The answer is ";
  if (answer.size() == 1 && is_scienceqa_option(answer[0])) return answer[0];
  if (answer.size() >= 3 && is_scienceqa_option(answer[0]) && answer.substr(1, 2) == ". ") return answer[0];
  std::optional<char> found;
  for (size_t at = answer.find(kPhrase); at != std::string_view::npos;) {
    const size_t letter = at + kPhrase.size();
    const bool matches =
        letter + 1 < answer.size() && answer[letter] >= 'A' && answer[letter] <= 'Z' && answer[letter + 1] != '\n';
    if (matches && found) return std::nullopt;
    if (matches) found = answer[letter];
    at = answer.find(kPhrase, matches ? letter + 2 : at + 1);
  }
  return found;
}

std::optional<char> mmbench_choice(std::string_view answer, const std::vector<std::string>& options) {
  const auto letter = by_letter(answer, options.size());
  return letter ? letter : by_text(answer, options);
}

}  // namespace vlmamba
