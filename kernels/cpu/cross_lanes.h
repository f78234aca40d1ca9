#pragma once

#include "kernels/cpu/storage.h"

// The sum of the sequences of a map on the CPU, without LibTorch: compiled once per instruction set (cross_lanes.cpp),
// chosen at run time by cross_scan.cpp. Legend: B batch, L pixels, K directions, D channels.

namespace vlmamba::cpu {

template <typename S>
struct MergeProblem {
  int64_t length, directions, channels;
  const int32_t* step;  // [K, L]: the step at which direction k reads a pixel
  const S* x;           // [B, K, L, D]
  S* y;                 // [B, L, D]
};

// Pixels are counted row after row: first .. last-1 of B L.
namespace baseline {
template <typename S>
void merge(const MergeProblem<S>& p, int64_t first, int64_t last);
}
namespace avx2 {
template <typename S>
void merge(const MergeProblem<S>& p, int64_t first, int64_t last);
}
namespace avx512 {
template <typename S>
void merge(const MergeProblem<S>& p, int64_t first, int64_t last);
}

}  // namespace vlmamba::cpu
