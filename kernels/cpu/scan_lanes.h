#pragma once

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/storage.h"

// The selective scans on the CPU, without LibTorch: compiled once per instruction set (scan_forward.cpp,
// scan_backward.cpp), chosen at run time by scan.cpp. A vector lane is a channel; a block is one register of channels.
//
// Legend: B batch, L positions, K directions, D channels, N states, G groups. The 1-D scan is K = 1 with the identity
// as its only order. M is the type of the arithmetic: double for double, else float.

namespace vlmamba::cpu {

// A tensor [B, L, K or 1, G or 1, any] by its strides; the last is 1. A stride of 0 stands for what all share.
template <typename T>
struct Strided {
  T* data = nullptr;  // null where not given
  int64_t row = 0, position = 0, direction = 0, group = 0;

  T* at(int64_t r, int64_t t, int64_t k, int64_t g = 0) const {
    return data + r * row + t * position + k * direction + g * group;
  }
};

template <typename T>
struct ScanProblem {
  using M = Math<T>;
  int64_t length, directions, channels, states, groups;
  bool u_per_direction, merge, delta_softplus;
  const int32_t* order;    // [K, L]: the position that step t of direction k reads
  const StepKind* step;    // [B, L] or null: no run boundaries
  Strided<const T> u;      // [B, L, K or 1, D]
  Strided<const T> delta;  // [B, L, K, D]
  Strided<const T> b, c;   // [B, L, K, G, N]
  Strided<const T> z;      // [B, L, D] or null; only with K = 1
  const M* a;              // [K, D, N]
  const M* skip;           // [K, D] or null: the op's D
  const M* delta_bias;     // [K, D] or null
  const M* initial_state;  // [B, D, N] or null; only with K = 1
};

template <typename T>
struct ScanOutput {
  Strided<T> y;          // [B, L, 1 or K, D]
  Math<T>* final_state;  // [B, D, N] or null
};

template <typename T>
struct ScanGradients {
  using M = Math<T>;
  Strided<const T> dy;    // [B, L, 1 or K, D]
  const M* dfinal_state;  // [B, D, N] or null
  Strided<T> du;          // like u
  Strided<T> ddelta;      // like delta
  Strided<T> dz;          // [B, L, D] or null
  Strided<M> db, dc;      // [B, L, K, G, N], zeroed by the caller: the part of this task's slice of channels
  M* da;                  // [K, D, N] or null: the part of this task's rows, like the two below
  M* dskip;               // [K, D] or null
  M* ddelta_bias;         // [K, D] or null
  M* dinitial_state;      // [B, D, N] or null
};

// Rows first_row .. last_row-1, blocks first_block .. last_block-1 of every direction.
struct Share {
  int64_t first_row, last_row, first_block, last_block;
};

template <typename T>
struct ScanKernels {
  int64_t lanes;  // channels of a block
  void (*forward)(const ScanProblem<T>&, const ScanOutput<T>&, const Share&);
  void (*backward)(const ScanProblem<T>&, const ScanGradients<T>&, const Share&);
};

namespace baseline {
template <typename T>
ScanKernels<T> scan_kernels();
}
namespace avx2 {
template <typename T>
ScanKernels<T> scan_kernels();
}
namespace avx512 {
template <typename T>
ScanKernels<T> scan_kernels();
}

}  // namespace vlmamba::cpu
