#pragma once

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/storage.h"

// The causal convolutions on the CPU, without LibTorch: compiled once per instruction set (conv_lanes.cpp), chosen at
// run time by causal_conv1d.cpp. Legend: B batch, L positions, K directions, D channels, W taps. S: of the tensors in
// memory; weights and their gradients are in the type of the arithmetic. All tensors are contiguous.

namespace vlmamba::cpu {

template <typename S>
struct ConvProblem {
  int64_t batch, length, directions, channels, taps;
  bool silu;
  const int32_t* order;    // [K, L]: the position that step t of direction k reads
  const StepKind* step;    // [B, L] or null: no run boundaries; only with K = 1
  const S* x;              // [B, L, D]
  const Math<S>* weight;   // [K, D, W]
  const Math<S>* bias;     // [K, D] or null
  const S* initial_state;  // [B, W-1, D] or null; only with K = 1
};

template <typename S>
struct ConvOutput {
  S* y;            // [B, L, K, D]
  S* final_state;  // [B, W-1, D] or null
};

template <typename S>
struct ConvGradients {
  const S* dy;            // [B, L, K, D]
  const S* dfinal_state;  // [B, W-1, D] or null
  S* dx;                  // [B, L, D]
  Math<S>* dweight;       // [B, K, D, W]: a part a row; or null
  Math<S>* dbias;         // [B, K, D] or null
  S* dinitial_state;      // [B, W-1, D] or null
};

// Work is counted in stripes of neighbouring channels, row after row: wide ones, so that a memory page is used up while
// it is at hand; narrow ones with several directions, whose sum has to stay in cache.
namespace {
constexpr int64_t conv_stripe_channels(int64_t directions) { return directions == 1 ? 256 : 64; }
constexpr int64_t conv_stripes(int64_t channels, int64_t directions) {
  return blocks_per_group(channels, 1, conv_stripe_channels(directions));
}
}  // namespace

template <typename S>
struct ConvKernels {
  void (*forward)(const ConvProblem<S>&, const ConvOutput<S>&, int64_t first_stripe, int64_t last_stripe);
  void (*backward)(const ConvProblem<S>&, const ConvGradients<S>&, int64_t first_stripe, int64_t last_stripe);
};

namespace baseline {
template <typename S>
ConvKernels<S> conv_kernels(int64_t taps);
}
namespace avx2 {
template <typename S>
ConvKernels<S> conv_kernels(int64_t taps);
}
namespace avx512 {
template <typename S>
ConvKernels<S> conv_kernels(int64_t taps);
}

}  // namespace vlmamba::cpu
