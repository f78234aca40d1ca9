#include "vlmamba/data/sample_policy.h"

#include <algorithm>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

constexpr int64_t kFewUntrained = 9;  // say nothing about a share

}  // namespace

SampleCounts& SampleCounts::operator+=(const SampleCounts& other) {
  read += other.read;
  skipped += other.skipped;
  cut += other.cut;
  dropped += other.dropped;
  untrained += other.untrained;
  return *this;
}

void SampleCounts::add(SampleFate fate) {
  ++read;
  skipped += fate == SampleFate::kSkipped ? 1 : 0;
  cut += fate == SampleFate::kCut ? 1 : 0;
  dropped += fate == SampleFate::kDropped ? 1 : 0;
  untrained += fate == SampleFate::kUntrained ? 1 : 0;
}

void check_counts(const SampleCounts& counts, const SamplePolicy& policy, const std::string& examples) {
  if (counts.skipped > policy.max_bad_samples)
    throw Error(ExitCode::kData, "data.max_bad_samples",
                "expected at most " + std::to_string(policy.max_bad_samples) + " records that cannot be read, got " +
                    std::to_string(counts.skipped) + " of " + std::to_string(counts.read) + examples);
  const double share = policy.max_untrained_share * static_cast<double>(counts.read);
  const auto allowed =
      policy.max_untrained_share > 0 ? std::max<int64_t>(kFewUntrained, static_cast<int64_t>(share)) : 0;
  if (counts.untrained > allowed)
    throw Error(ExitCode::kData, "data.max_untrained_share",
                "expected at most " + std::to_string(allowed) + " of " + std::to_string(counts.read) +
                    " records without anything to learn, got " + std::to_string(counts.untrained) + examples);
}

}  // namespace vlmamba
