#pragma once

#include "kernels/cuda/selective_scan.h"

namespace vlmamba::cuda::scan {

// The kernels for up to kN states. Each kN has a file of its own (selective_scan_<kN>.cu), so that they compile at the
// same time.
template <class T, int kN>
struct Instance {
  static int64_t walk_channels();
  static int64_t backward_channels();
  static cudaError_t walk(const ScanProblem<T>& p, const ScanWalk<T>& w, cudaStream_t stream);
  static cudaError_t backward(const ScanProblem<T>& p, const ScanBackward<T>& w, cudaStream_t stream);
};

}  // namespace vlmamba::cuda::scan
