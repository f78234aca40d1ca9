#pragma once

#include <cstdint>
#include <string_view>

namespace vlmamba {

enum class YesNo { kYes, kNo, kOther };

/// POPE: "no" if, before the first period and without commas, one of the words between single spaces is exactly No, not
/// or no; else "yes". Source: LLaVA's eval_pope.py.
YesNo pope_answer(std::string_view text);

/// MME: in lower case, exactly yes or no; else "yes" within the first four characters, else "no" within them, else
/// other. Source: MME's calculation.py.
YesNo mme_answer(std::string_view text);

/// lmms-eval on POPE: the stripped text in lower case is yes, no or something else.
YesNo exact_yes_no(std::string_view text);

/// Counts of a two-class test with yes as the positive class.
struct YesNoCounts {
  int64_t true_positive = 0, false_positive = 0, true_negative = 0, false_negative = 0;

  void add(YesNo answer, bool truth_is_yes);
  /// Shares in 0..1; 0 where there is nothing to divide by.
  double accuracy() const;
  double precision() const;
  double recall() const;
  double f1() const;
};

}  // namespace vlmamba
