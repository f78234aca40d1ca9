#pragma once

#include <cstdint>
#include <vector>

namespace vlmamba {

/// An endless stream of record indices: epoch after epoch, each a random order of all records. What stands at a
/// position is a function of (seed, position) alone, so that a run resumes from a step number.
class Sampler {
 public:
  /// `stream` tells samplers of one seed apart, e.g. the stages of a run. num_records > 0.
  Sampler(uint64_t seed, uint32_t stream, int64_t num_records)
      : seed_(seed), stream_(stream), num_records_(num_records) {}

  int64_t at(int64_t position);

 private:
  uint64_t seed_;
  uint32_t stream_;
  int64_t num_records_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;  // of epoch_
};

}  // namespace vlmamba
