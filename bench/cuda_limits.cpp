// What the GPU can do at most.

#include <cuda_runtime_api.h>

#include "bench/limits.h"
#include "vlmamba/core/error.h"

namespace vlmamba::bench {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, which, device) != cudaSuccess) return 0;
  return value;
}

}  // namespace

Limits cuda_limits(at::Device device) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device.index());
  if (error != cudaSuccess)
    throw Error(ExitCode::kUsage, "--device",
                std::string("expected a CUDA device, got none: ") + cudaGetErrorString(error));
  // 16 special functions a clock and multiprocessor since compute capability 7.0.
  const double clock = 1e3 * attribute(cudaDevAttrClockRate, device.index());
  return {properties.name, copy_bandwidth(device), 16.0 * properties.multiProcessorCount * clock};
}

}  // namespace vlmamba::bench
