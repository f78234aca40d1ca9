#include "vlmamba/train/sample_log.h"

#include "vlmamba/core/log.h"

namespace vlmamba {
namespace {

constexpr int64_t kLogged = 10;  // of each kind
constexpr size_t kExamples = 5;

}  // namespace

void SampleLog::add(const StepBatches& step, SampleCounts& totals) {
  totals += step.samples;
  for (const auto& [fate, text] : step.remarks) {
    if (logged_[fate]++ < kLogged)
      log::warn(text + (logged_[fate] == kLogged ? " (further ones are only counted)" : ""));
    if (fate == SampleFate::kUsed || fate == SampleFate::kCut) continue;
    left_out_.push_back(text);
    if (left_out_.size() > kExamples) left_out_.erase(left_out_.begin());
  }
  SampleCounts all = totals;
  all += malformed_;
  std::string last;
  for (const auto& text : left_out_) last += "\n  " + text;
  check_counts(all, policy_, last.empty() ? "" : "; the last ones:" + last);
}

}  // namespace vlmamba
