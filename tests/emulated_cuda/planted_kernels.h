#pragma once

#include "kernels/cuda/device.h"

// Kernels that sum, exchange and copy, each once right and once with a planted mistake: what the emulation must catch.

namespace vlmamba::cuda::planted {

enum class Mistake {
  kNone,
  kMissingBarrier,
  kMissingWarpBarrier,
  kMissingWait,        // of an asynchronous copy
  kBarrierForSome,     // half of the threads skip it
  kExitBeforeBarrier,  // half of the threads return
  kShuffleForSome,     // half of the lanes skip it
  kPastSharedMemory,   // by one element
  kPastGlobalMemory,   // by one element
  kMisalignedVector,
  kChunkEdge,  // the last element of every chunk is left out
};

/// y[i] = x[i] + x[n - 1 - i] of every block of kThreads numbers, through shared memory.
cudaError_t launch_mirror(const float* x, float* y, int blocks, Mistake mistake, cudaStream_t stream);
/// The same within each warp.
cudaError_t launch_warp_mirror(const float* x, float* y, int blocks, Mistake mistake, cudaStream_t stream);
/// y[b] = the sum of block b's kThreads numbers, by shuffles.
cudaError_t launch_sum(const float* x, float* y, int blocks, Mistake mistake, cudaStream_t stream);
/// y = x in chunks of kThreads; n need not be a multiple.
cudaError_t launch_copy(const float* x, float* y, int64_t n, Mistake mistake, cudaStream_t stream);
/// y = x by asynchronous copies of 16 bytes; n is a multiple of 4.
cudaError_t launch_async_copy(const float* x, float* y, int n, Mistake mistake, cudaStream_t stream);

constexpr int kThreads = 64;

}  // namespace vlmamba::cuda::planted
