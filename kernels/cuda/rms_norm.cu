// The norms: a block works on a row, and its threads on the same channels of every row, four at a time where they are
// aligned. A row is read twice; the second time it comes from the cache.

#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/tasks.h"
#include "kernels/cuda/vector.h"

namespace vlmamba::cuda {
namespace {

constexpr int kMaxThreads = 256, kVector = 4;
constexpr size_t kMaxShared = 96 << 10;  // of weight gradients: leaves room for two blocks

// Threads for a row: a warp at least.
int threads_for(int64_t channels, int width) {
  int threads = 32;
  while (threads < kMaxThreads && int64_t{threads} * width < channels) threads *= 2;
  return threads;
}

__device__ __forceinline__ float reciprocal_root(float x) { return rsqrtf(x); }
__device__ __forceinline__ double reciprocal_root(double x) { return rsqrt(x); }

// The sum over the block, the same in every thread. `warps`: a number for each of them; free to use on entry.
template <class Math>
__device__ Math block_sum(Math value, Math* warps) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  if (blockDim.x == 32) return value;
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) value += warps[warp];
  return value;
}

template <class X, class R, int kWidth>
__global__ __launch_bounds__(kMaxThreads) void forward(NormForward<X, R> p) {
  using Math = MathType<X>;
  Math* warps = dynamic_shared<Math>();
  const int64_t first = int64_t{threadIdx.x} * kWidth, stride = int64_t{blockDim.x} * kWidth;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const int64_t offset = row * p.channels;
    Math squares = 0, values[kWidth];
    for (int64_t c = first; c < p.channels; c += stride) {
      load(p.x + offset + c, values);
      if (p.residual) {
        Math residual[kWidth];
        load(p.residual + offset + c, residual);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) values[i] += residual[i];
        store(p.sum + offset + c, values);
      }
#pragma unroll
      for (int i = 0; i < kWidth; ++i) squares += values[i] * values[i];
    }
    const Math scale = reciprocal_root(block_sum(squares, warps) / Math(p.channels) + Math(p.eps));
    for (int64_t c = first; c < p.channels; c += stride) {
      Math weight[kWidth];
      load(p.weight + c, weight);
      if (p.residual)
        load(p.sum + offset + c, values);  // what this thread has just written
      else
        load(p.x + offset + c, values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] *= scale * weight[i];
      store(p.y + offset + c, values);
    }
  }
}

template <class X, class Y, int kWidth>
__global__ __launch_bounds__(kMaxThreads) void backward(NormBackward<X, Y> p, bool sums_fit) {
  using Math = MathType<X>;
  Math* warps = dynamic_shared<Math>();
  Math* part = p.dweight ? p.dweight + int64_t{blockIdx.x} * p.channels : nullptr;
  Math* sums = sums_fit ? warps + 2 * (kMaxThreads / 32) : part;  // every thread has its own channels of it
  const int64_t first = int64_t{threadIdx.x} * kWidth, stride = int64_t{blockDim.x} * kWidth;
  Math nothing[kWidth], x[kWidth], dy[kWidth], weight[kWidth], sum[kWidth];
  fill(nothing, Math(0));
  for (int64_t c = first; part && c < p.channels; c += stride) store(sums + c, nothing);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const int64_t offset = row * p.channels;
    Math squares = 0, product = 0;
    for (int64_t c = first; c < p.channels; c += stride) {
      load(p.x + offset + c, x), load(p.dy + offset + c, dy), load(p.weight + c, weight);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) squares += x[i] * x[i], product += x[i] * dy[i] * weight[i];
    }
    const Math count = Math(p.channels);
    const Math scale = reciprocal_root(block_sum(squares, warps) / count + Math(p.eps));
    const Math pull = block_sum(product, warps + kMaxThreads / 32) / count * scale * scale;
    for (int64_t c = first; c < p.channels; c += stride) {
      load(p.x + offset + c, x), load(p.dy + offset + c, dy), load(p.weight + c, weight);
      if (part) {
        load(sums + c, sum);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] += dy[i] * x[i] * scale;
        store(sums + c, sum);
      }
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = scale * (dy[i] * weight[i] - x[i] * pull);
      if (p.dsum) {
        load(p.dsum + offset + c, dy);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) x[i] += dy[i];
      }
      store(p.dx + offset + c, x);
    }
  }
  if (!part || !sums_fit) return;
  for (int64_t c = first; c < p.channels; c += stride) load(sums + c, sum), store(part + c, sum);
}

template <class X, class R, int kWidth>
cudaError_t forward_of_width(const NormForward<X, R>& p, cudaStream_t stream) {
  return launch(forward<X, R, kWidth>, static_cast<unsigned>(p.rows < kMaxBlocks ? p.rows : kMaxBlocks),
                threads_for(p.channels, kWidth), kMaxThreads / 32 * sizeof(MathType<X>), stream, p);
}

template <class X, class Y, int kWidth>
cudaError_t backward_of_width(const NormBackward<X, Y>& p, int64_t parts, cudaStream_t stream) {
  const size_t warps = 2 * (kMaxThreads / 32) * sizeof(MathType<X>);
  const size_t sums = static_cast<size_t>(p.channels) * sizeof(MathType<X>);
  const bool sums_fit = warps + sums <= kMaxShared;
  return launch(backward<X, Y, kWidth>, static_cast<unsigned>(parts), threads_for(p.channels, kWidth),
                warps + (sums_fit ? sums : 0), stream, p, sums_fit);
}

}  // namespace

int64_t norm_parts(int64_t rows, int64_t channels, int multiprocessors) {
  constexpr int kThreadsPerMultiprocessor = 2048;
  const int64_t blocks = int64_t{multiprocessors} * (kThreadsPerMultiprocessor / threads_for(channels, kVector));
  return rows < blocks ? rows : blocks;
}

template <class X, class R>
cudaError_t norm_forward(const NormForward<X, R>& p, cudaStream_t stream) {
  if (p.rows == 0 || p.channels == 0) return cudaSuccess;
  if (fits_vectors(kVector, sizeof(X), p.channels, {p.x, p.y}) &&
      fits_vectors(kVector, sizeof(MathType<X>), p.channels, {p.weight, p.sum}) &&
      fits_vectors(kVector, sizeof(R), p.channels, {p.residual}))
    return forward_of_width<X, R, kVector>(p, stream);
  return forward_of_width<X, R, 1>(p, stream);
}

template <class X, class Y>
cudaError_t norm_backward(const NormBackward<X, Y>& p, int64_t parts, cudaStream_t stream) {
  if (p.rows == 0 || p.channels == 0) return cudaSuccess;
  if (fits_vectors(kVector, sizeof(X), p.channels, {p.x, p.dx}) &&
      fits_vectors(kVector, sizeof(MathType<X>), p.channels, {p.weight, p.dsum, p.dweight}) &&
      fits_vectors(kVector, sizeof(Y), p.channels, {p.dy}))
    return backward_of_width<X, Y, kVector>(p, parts, stream);
  return backward_of_width<X, Y, 1>(p, parts, stream);
}

template cudaError_t norm_forward(const NormForward<float, float>&, cudaStream_t);
template cudaError_t norm_forward(const NormForward<double, double>&, cudaStream_t);
template cudaError_t norm_forward(const NormForward<__half, __half>&, cudaStream_t);
template cudaError_t norm_forward(const NormForward<__half, float>&, cudaStream_t);
template cudaError_t norm_forward(const NormForward<__nv_bfloat16, __nv_bfloat16>&, cudaStream_t);
template cudaError_t norm_forward(const NormForward<__nv_bfloat16, float>&, cudaStream_t);
template cudaError_t norm_backward(const NormBackward<float, float>&, int64_t, cudaStream_t);
template cudaError_t norm_backward(const NormBackward<double, double>&, int64_t, cudaStream_t);
template cudaError_t norm_backward(const NormBackward<__half, __half>&, int64_t, cudaStream_t);
template cudaError_t norm_backward(const NormBackward<float, __half>&, int64_t, cudaStream_t);
template cudaError_t norm_backward(const NormBackward<__nv_bfloat16, __nv_bfloat16>&, int64_t, cudaStream_t);
template cudaError_t norm_backward(const NormBackward<float, __nv_bfloat16>&, int64_t, cudaStream_t);

}  // namespace vlmamba::cuda
