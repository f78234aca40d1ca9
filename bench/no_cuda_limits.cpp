// A build without CUDA.

#include "bench/limits.h"
#include "vlmamba/core/error.h"

namespace vlmamba::bench {

Limits cuda_limits(at::Device) {
  throw Error(ExitCode::kUsage, "--device", "expected cpu (this build has no CUDA kernels), got cuda");
}

}  // namespace vlmamba::bench
