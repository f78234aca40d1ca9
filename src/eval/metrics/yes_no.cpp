#include "vlmamba/eval/metrics/yes_no.h"

#include <algorithm>
#include <string>

#include "vlmamba/eval/metrics/unicode_text.h"

namespace vlmamba {
namespace {

double share(int64_t part, int64_t of) { return of == 0 ? 0 : static_cast<double>(part) / static_cast<double>(of); }

// The first `count` code points.
std::string_view first_characters(std::string_view text, int count) {
  size_t at = 0;
  for (; count > 0 && at < text.size(); --count) do
      ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return text.substr(0, at);
}

}  // namespace

YesNo pope_answer(std::string_view text) {
  std::string sentence(text.substr(0, text.find('.')));
  sentence.erase(std::remove(sentence.begin(), sentence.end(), ','), sentence.end());
  for (size_t at = 0; at <= sentence.size();) {
    const size_t end = std::min(sentence.find(' ', at), sentence.size());
    const std::string_view word = std::string_view(sentence).substr(at, end - at);
    if (word == "No" || word == "not" || word == "no") return YesNo::kNo;
    at = end + 1;
  }
  return YesNo::kYes;
}

YesNo mme_answer(std::string_view text) {
  const std::string small = unicode::lower(text);
  const std::string_view start = small == "yes" || small == "no" ? small : first_characters(small, 4);
  if (start.find("yes") != std::string_view::npos) return YesNo::kYes;
  return start.find("no") != std::string_view::npos ? YesNo::kNo : YesNo::kOther;
}

YesNo exact_yes_no(std::string_view text) {
  const std::string small = unicode::lower(unicode::strip(text));
  return small == "yes" ? YesNo::kYes : small == "no" ? YesNo::kNo : YesNo::kOther;
}

void YesNoCounts::add(YesNo answer, bool truth_is_yes) {
  const bool yes = answer == YesNo::kYes;
  ++(yes ? (truth_is_yes ? true_positive : false_positive) : (truth_is_yes ? false_negative : true_negative));
}

double YesNoCounts::accuracy() const {
  return share(true_positive + true_negative, true_positive + true_negative + false_positive + false_negative);
}
double YesNoCounts::precision() const { return share(true_positive, true_positive + false_positive); }
double YesNoCounts::recall() const { return share(true_positive, true_positive + false_negative); }
double YesNoCounts::f1() const {
  const double sum = precision() + recall();
  return sum == 0 ? 0 : 2 * precision() * recall() / sum;
}

}  // namespace vlmamba
