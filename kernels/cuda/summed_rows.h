#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// The sum of a contiguous tensor of float or double over its leading dimensions, down to `shape`: in a fixed order, so
/// that runs agree to the bit.
at::Tensor sum_of_rows(const at::Tensor& parts, at::IntArrayRef shape, cudaStream_t stream);

}  // namespace vlmamba::cuda
