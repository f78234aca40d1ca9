#pragma once

#include "kernels/cpu/blocks.h"

// The causal convolutions on the CPU, without LibTorch: compiled once per instruction set (conv_lanes.cpp), chosen at
// run time by causal_conv1d.cpp. Legend: B batch, L positions, K directions, D channels, W taps. All tensors are
// contiguous.

namespace vlmamba::cpu {

template <typename T>
struct ConvProblem {
  int64_t batch, length, directions, channels, taps;
  bool silu;
  const int32_t* order;    // [K, L]: the position that step t of direction k reads
  const StepKind* step;    // [B, L] or null: no run boundaries
  const T* x;              // [B, L, D]
  const T* weight;         // [K, D, W]
  const T* bias;           // [K, D] or null
  const T* initial_state;  // [B, W-1, D] or null; only with K = 1
};

template <typename T>
struct ConvOutput {
  T* y;            // [B, L, K, D]
  T* final_state;  // [B, W-1, D] or null
};

template <typename T>
struct ConvGradients {
  const T* dy;            // [B, L, K, D]
  const T* dfinal_state;  // [B, W-1, D] or null
  T* dx;                  // [B, L, D]
  T* dweight;             // [B, K, D, W]: a part a row
  T* dbias;               // [B, K, D] or null
  T* dinitial_state;      // [B, W-1, D] or null
};

// One row of the batch, blocks first_block .. last_block-1 of every direction.
template <typename T>
struct ConvKernels {
  void (*forward)(const ConvProblem<T>&, const ConvOutput<T>&, int64_t row, int64_t first_block, int64_t last_block);
  void (*backward)(const ConvProblem<T>&, const ConvGradients<T>&, int64_t row, int64_t first_block,
                   int64_t last_block);
};

namespace baseline {
template <typename T>
ConvKernels<T> conv_kernels();
}
namespace avx2 {
template <typename T>
ConvKernels<T> conv_kernels();
}
namespace avx512 {
template <typename T>
ConvKernels<T> conv_kernels();
}

}  // namespace vlmamba::cpu
