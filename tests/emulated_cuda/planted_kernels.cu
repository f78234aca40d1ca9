#include "tests/emulated_cuda/planted_kernels.h"

namespace vlmamba::cuda::planted {
namespace {

__global__ void mirror(const float* x, float* y, Mistake mistake) {
  float* tile = dynamic_shared<float>();
  const int i = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.x) * kThreads;
  if (mistake == Mistake::kExitBeforeBarrier && i >= kThreads / 2) return;
  tile[mistake == Mistake::kPastSharedMemory ? i + 1 : i] = x[first + i];
  if (mistake == Mistake::kBarrierForSome) {
    if (i < kThreads / 2) __syncthreads();
    __syncthreads();
  } else if (mistake != Mistake::kMissingBarrier) {
    __syncthreads();
  }
  y[first + i] = tile[i] + tile[kThreads - 1 - i];
}

__global__ void warp_mirror(const float* x, float* y, Mistake mistake) {
  float* tile = dynamic_shared<float>();
  const int i = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.x) * kThreads;
  tile[i] = x[first + i];
  if (mistake != Mistake::kMissingWarpBarrier) __syncwarp();
  y[first + i] = tile[i] + tile[i ^ 31];
}

__global__ void sum(const float* x, float* y, Mistake mistake) {
  float* warps = dynamic_shared<float>();
  const int i = static_cast<int>(threadIdx.x);
  float value = x[static_cast<int>(blockIdx.x) * kThreads + i];
  for (int mask = 16; mask > 0; mask /= 2) {
    if (mistake == Mistake::kShuffleForSome && i % 32 >= 16 && mask == 1) continue;
    value += __shfl_xor_sync(~0u, value, mask);
  }
  if (i % 32 == 0) warps[i / 32] = value;
  __syncthreads();
  if (i == 0) y[blockIdx.x] = warps[0] + warps[1];
}

__global__ void copy(const float* x, float* y, int64_t n, Mistake mistake) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t last = mistake == Mistake::kPastGlobalMemory ? n : n - 1;
  if (i > last || (mistake == Mistake::kChunkEdge && threadIdx.x == kThreads - 1)) return;
  y[i] = x[i];
}

struct alignas(16) Four {
  float values[4];
};

__global__ void async_copy(const float* x, float* y, Mistake mistake) {
  float* tile = dynamic_shared<float>();
  const int i = static_cast<int>(threadIdx.x) * 4;
  copy_async_16(tile + i, x + i + (mistake == Mistake::kMisalignedVector ? 1 : 0));
  commit_copies();
  if (mistake != Mistake::kMissingWait) wait_copies<0>();
  *reinterpret_cast<Four*>(y + i) = *reinterpret_cast<const Four*>(tile + i);
}

constexpr size_t kTile = kThreads * sizeof(float);

}  // namespace

cudaError_t launch_mirror(const float* x, float* y, int blocks, Mistake mistake, cudaStream_t stream) {
  return launch(mirror, blocks, kThreads, kTile, stream, x, y, mistake);
}

cudaError_t launch_warp_mirror(const float* x, float* y, int blocks, Mistake mistake, cudaStream_t stream) {
  return launch(warp_mirror, blocks, kThreads, kTile, stream, x, y, mistake);
}

cudaError_t launch_sum(const float* x, float* y, int blocks, Mistake mistake, cudaStream_t stream) {
  return launch(sum, blocks, kThreads, 2 * sizeof(float), stream, x, y, mistake);
}

cudaError_t launch_copy(const float* x, float* y, int64_t n, Mistake mistake, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
  return launch(copy, blocks, kThreads, 0, stream, x, y, n, mistake);
}

cudaError_t launch_async_copy(const float* x, float* y, int n, Mistake mistake, cudaStream_t stream) {
  return launch(async_copy, 1, n / 4, static_cast<size_t>(n) * sizeof(float), stream, x, y, mistake);
}

}  // namespace vlmamba::cuda::planted
