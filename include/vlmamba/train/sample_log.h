#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vlmamba/data/loader.h"
#include "vlmamba/dist/comm.h"

namespace vlmamba {

/// Tells the user which records of a stage were left out or cut, counts them all, and stops a run that loses too many.
class SampleLog {
 public:
  SampleLog(const SamplePolicy& policy, const SampleCounts& malformed) : policy_(policy), malformed_(malformed) {}

  /// Adds a step of all ranks to the stage's `totals`. The first remarks of a process are logged, all are counted.
  /// Throws Error (data) where the policy allows no more, naming examples.
  void add(const StepBatches& step, Comm& comm, SampleCounts& totals);

 private:
  SamplePolicy policy_;
  SampleCounts malformed_;  // found before the first step
  std::map<SampleFate, int64_t> logged_;
  std::vector<std::string> left_out_;  // the last ones
};

}  // namespace vlmamba
