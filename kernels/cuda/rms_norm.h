#pragma once

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// y = s * rsqrt(mean(s^2) + eps) * weight by rows of D, where s = x, or x + residual, which is kept as well.
template <class X, class R>
struct NormForward {
  int64_t rows, channels;
  double eps;
  const X* x;
  const R* residual;  // or null: no sum is kept then
  const MathType<X>* weight;
  X* y;
  MathType<X>* sum;
};

/// The gradient of s, in its type, plus what reached it as residual_out.
template <class X, class Y>
struct NormBackward {
  int64_t rows, channels;
  double eps;
  const X* x;  // what was normalised
  const Y* dy;
  const MathType<X>*dsum, *weight;  // dsum: or null
  X* dx;
  MathType<X>* dweight;  // [parts, D], to be summed; or null
};

/// Blocks of the backward, each with a part of dweight: enough for the device, not more than rows.
int64_t norm_parts(int64_t rows, int64_t channels, int multiprocessors);

/// (X, R): both of one type, or half or bfloat16 with float.
template <class X, class R>
cudaError_t norm_forward(const NormForward<X, R>& problem, cudaStream_t stream);
/// (X, Y): both of one type, or float with half or bfloat16.
template <class X, class Y>
cudaError_t norm_backward(const NormBackward<X, Y>& problem, int64_t parts, cudaStream_t stream);

}  // namespace vlmamba::cuda
