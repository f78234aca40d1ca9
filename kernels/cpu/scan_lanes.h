#pragma once

#include "kernels/cpu/blocks.h"

// The selective scans on the CPU, without LibTorch: compiled once per instruction set (scan_lanes.cpp), chosen at run
// time by scan.cpp. Vector lane = channel; the states of kLanes channels stay in cache while time runs.
//
// Legend: B batch, L positions, K directions, D channels, N states, G groups. The 1-D scan is K = 1 with the identity
// as its only order. All tensors are contiguous.

namespace vlmamba::cpu {

constexpr int64_t kTile = 16;  // steps between two states that the backward keeps

template <typename T>
struct ScanProblem {
  int64_t batch, length, directions, channels, states, groups;
  bool u_per_direction, merge, delta_softplus;
  const int32_t* order;    // [K, L]: the position that step t of direction k reads
  const StepKind* step;    // [B, L] or null: no run boundaries
  const T* u;              // [B, L, K or 1, D]
  const T* delta;          // [B, L, K, D]
  const T* a;              // [K, D, N]
  const T* b;              // [B, L, K, G, N]
  const T* c;              // [B, L, K, G, N]
  const T* skip;           // [K, D] or null: the op's D
  const T* z;              // [B, L, D] or null; only with K = 1
  const T* delta_bias;     // [K, D] or null
  const T* initial_state;  // [B, D, N] or null; only with K = 1
};

template <typename T>
struct ScanOutput {
  T* y;            // [B, L, 1 or K, D]
  T* final_state;  // [B, D, N] or null
};

template <typename T>
struct ScanGradients {
  const T* dy;            // [B, L, 1 or K, D]
  const T* dfinal_state;  // [B, D, N] or null
  T* du;                  // like u
  T* ddelta;              // like delta
  T* db;                  // [S, B, L, K, G, N]: a part for each of the S slices of channels, zeroed by the caller
  T* dc;                  // the same
  T* da;                  // [B, K, D, N]: a part a row
  T* dskip;               // [B, K, D] or null
  T* ddelta_bias;         // [B, K, D] or null
  T* dz;                  // [B, L, D] or null
  T* dinitial_state;      // [B, D, N] or null
};

// One row of the batch, blocks first_block .. last_block-1 of every direction.
template <typename T>
struct ScanKernels {
  void (*forward)(const ScanProblem<T>&, const ScanOutput<T>&, int64_t row, int64_t first_block, int64_t last_block);
  void (*backward)(const ScanProblem<T>&, const ScanGradients<T>&, int64_t row, int64_t slice, int64_t first_block,
                   int64_t last_block);
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
