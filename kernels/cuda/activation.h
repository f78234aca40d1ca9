#pragma once

#include "kernels/cuda/device.h"

// Activations in the type of the arithmetic, by the unit for special functions where that is float.

namespace vlmamba::cuda {

/// 1 / (1 + exp(-x)).
template <class Math>
__device__ __forceinline__ Math sigmoid(Math x) {
  constexpr Math kLog2E = Math(1.44269504088896340736);
  return reciprocal_approx(1 + exp2_approx(-kLog2E * x));
}

template <class Math>
__device__ __forceinline__ Math silu(Math x) {
  return x * sigmoid(x);
}

/// The derivative of silu.
template <class Math>
__device__ __forceinline__ Math silu_slope(Math x) {
  const Math gate = sigmoid(x);
  return gate * (1 + x * (1 - gate));
}

/// log(1 + exp(x)); x itself above 20, as PyTorch and mamba_ssm do. Exact, for kernels that are not bound by it.
__device__ __forceinline__ float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }
__device__ __forceinline__ double softplus(double x) { return x > 20 ? x : log1p(exp(x)); }

}  // namespace vlmamba::cuda
