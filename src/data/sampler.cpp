#include "vlmamba/data/sampler.h"

#include "vlmamba/core/rng.h"

namespace vlmamba {

int64_t Sampler::at(int64_t position) {
  const int64_t epoch = position / num_records_;
  if (epoch != epoch_) {
    order_ = Rng(seed_, RngPurpose::kSampler, static_cast<uint64_t>(epoch), stream_).permutation(num_records_);
    epoch_ = epoch;
  }
  return order_[static_cast<size_t>(position % num_records_)];
}

}  // namespace vlmamba
