#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "vlmamba/dist/comm.h"

namespace vlmamba {

/// The gradients of some parameters, summed over the ranks in buckets while the backward that makes them still runs.
/// Each gradient is a view of its bucket. The buckets are filled from the last parameter to the first, as a backward
/// goes, and leave in that order on every rank, whatever its batch reached: a gradient that none came to is 0.
///
/// Scattered (ZeRO, Rajbhandari et al., 2020, stage 1), a rank gets the sums of its share of each bucket alone, steps
/// that share, and sends the stepped parameters to the others: the traffic of a plain sum, and 1/size() of the moments.
class GradientBuckets {
 public:
  /// Elements of a flattened parameter.
  struct Range {
    int64_t begin, end;
  };

  /// Leaves that require grad; comm must outlive this. On one device.
  GradientBuckets(Comm& comm, std::vector<at::Tensor> parameters, int64_t bucket_bytes, bool scattered);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  /// Makes all gradients 0.
  void zero();
  /// The next backward is the last before finish(): each bucket leaves as soon as it and those before it are complete.
  void sum_in_next_backward();
  /// Sends what has not left and waits for all: the gradients are the sums over the ranks.
  void finish();

  bool is_scattered() const { return scattered_; }
  /// What this rank has of a parameter: all, or where scattered its share.
  Range owned(size_t parameter) const;
  /// Scattered: gives every rank the whole of all parameters, of which each has its own share. Overwrites the
  /// gradients.
  void share_parameters();

  size_t num_buckets() const { return buckets_.size(); }

 private:
  struct Bucket {
    at::Tensor flat;              // the gradients, padded to size() equal chunks
    std::vector<size_t> members;  // parameters
    size_t missing = 0;           // gradients of this backward that have not come
    std::unique_ptr<Collective> running{};
  };
  struct Place {
    size_t bucket = 0;
    int64_t offset = 0;
  };
  void make_bucket(const std::vector<size_t>& members);
  void watch_gradients();
  void gradient_came(size_t parameter);
  void send_complete_buckets();
  void send(Bucket& bucket);

  Comm& comm_;
  std::vector<at::Tensor> parameters_;
  bool scattered_;
  std::vector<Bucket> buckets_;
  std::vector<Place> places_;  // by parameter
  struct Hooks;
  std::unique_ptr<Hooks> hooks_;
  bool sending_ = false;
  size_t next_ = 0;  // bucket to leave
};

}  // namespace vlmamba
