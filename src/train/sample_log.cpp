#include "vlmamba/train/sample_log.h"

#include "vlmamba/core/log.h"

namespace vlmamba {
namespace {

constexpr int64_t kLogged = 10;  // of each kind
constexpr size_t kExamples = 5;

SampleCounts over_all_ranks(const SampleCounts& own, Comm& comm) {
  std::vector<double> numbers;
  for (const int64_t count : {own.read, own.skipped, own.cut, own.dropped, own.untrained})
    numbers.push_back(static_cast<double>(count));
  numbers = comm.sum(numbers);
  const auto count = [&](size_t i) { return static_cast<int64_t>(numbers[i]); };
  return {count(0), count(1), count(2), count(3), count(4)};
}

}  // namespace

void SampleLog::add(const StepBatches& step, Comm& comm, SampleCounts& totals) {
  totals += over_all_ranks(step.samples, comm);
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
