#pragma once

#include "bench/measure.h"

namespace vlmamba::bench {

/// Bytes read and written a second by copies of a large tensor.
double copy_bandwidth(at::Device device);

/// Of a GPU; throws Error (kUsage) in a build without CUDA.
Limits cuda_limits(at::Device device);

}  // namespace vlmamba::bench
