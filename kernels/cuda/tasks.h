#pragma once

// Kernels in which every thread does tasks of its own: as many blocks as there is work for, up to a limit.

#include <cstdint>

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

constexpr int kTaskThreads = 128;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// for (int64_t task = first_task(); task < tasks; task += task_stride())
__device__ __forceinline__ int64_t first_task() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t task_stride() { return int64_t{gridDim.x} * blockDim.x; }

/// Blocks of kTaskThreads for this many tasks.
inline unsigned task_blocks(int64_t tasks) {
  const int64_t blocks = ceil_divide(tasks, kTaskThreads);
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

}  // namespace vlmamba::cuda
