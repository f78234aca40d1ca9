#pragma once

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/storage.h"

// The norms on the CPU, without LibTorch: compiled once per instruction set (norm_lanes.cpp), chosen at run time by
// rms_norm.cpp. All tensors are contiguous rows of `channels` numbers.

namespace vlmamba::cpu {

// X: of x and y. R: of the residual.
template <typename X, typename R>
struct NormForward {
  int64_t channels;
  double eps;
  const X* x;
  const R* residual;      // or null: x alone is normalised
  const Math<X>* weight;  // [D]
  X* y;
  Math<X>* sum;  // x + residual; null without a residual
};

// X: of x and dx. Y: of dy.
template <typename X, typename Y>
struct NormBackward {
  int64_t channels;
  double eps;
  const Y* dy;
  const Math<X>* dsum;  // what the gradient of x gains besides, or null
  const X* x;
  const Math<X>* weight;
  X* dx;
  Math<X>* dweight;  // [parts, D], zeroed by the caller; or null
};

namespace baseline {
template <typename X, typename R>
void norm_forward(const NormForward<X, R>& p, int64_t first_row, int64_t last_row);
template <typename X, typename Y>
void norm_backward(const NormBackward<X, Y>& p, int64_t part, int64_t first_row, int64_t last_row);
}  // namespace baseline
namespace avx2 {
template <typename X, typename R>
void norm_forward(const NormForward<X, R>& p, int64_t first_row, int64_t last_row);
template <typename X, typename Y>
void norm_backward(const NormBackward<X, Y>& p, int64_t part, int64_t first_row, int64_t last_row);
}  // namespace avx2
namespace avx512 {
template <typename X, typename R>
void norm_forward(const NormForward<X, R>& p, int64_t first_row, int64_t last_row);
template <typename X, typename Y>
void norm_backward(const NormBackward<X, Y>& p, int64_t part, int64_t first_row, int64_t last_row);
}  // namespace avx512

}  // namespace vlmamba::cpu
