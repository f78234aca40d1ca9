// Chooses the scan's instance, and the small kernels around it.

#include "kernels/cuda/selective_scan.h"
#include "kernels/cuda/selective_scan_instance.h"

namespace vlmamba::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 20;  // of kernels whose threads take more than one element

dim3 blocks_for(int64_t elements) {
  const int64_t blocks = (elements + kThreads - 1) / kThreads;
  return dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
}

__device__ __forceinline__ int64_t first_element() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ __forceinline__ int64_t element_step() { return static_cast<int64_t>(gridDim.x) * kThreads; }

// Calls f with the number of states of the smallest instance that holds them, as a type.
template <class F>
auto with_instance(int64_t states, const F& f) {
  if (states <= 1) return f(std::integral_constant<int, 1>());
  if (states <= 8) return f(std::integral_constant<int, 8>());
  if (states <= 16) return f(std::integral_constant<int, 16>());
  if (states <= 32) return f(std::integral_constant<int, 32>());
  if (states <= 64) return f(std::integral_constant<int, 64>());
  return f(std::integral_constant<int, 256>());
}

template <class Math>
__global__ void chain_kernel(const ScanChain<Math> p) {
  const int64_t plane = p.channels * p.states;
  for (int64_t i = first_element(); i < p.batch * plane; i += element_step()) {
    const int64_t row = i / plane, channel = i % plane / p.states;
    const Math rate = p.a[i % plane] * Math(1.44269504088896340736);
    Math state = p.first ? p.first[i] : Math(0);
    for (int64_t step = 0; step < p.segments; ++step) {
      const int64_t line = row * p.segments + (p.reversed ? p.segments - 1 - step : step);
      // An infinite decay of no state is nothing.
      const Math decayed = state == 0 ? Math(0) : exp2_approx(rate * p.delta_sum[line * p.channels + channel]) * state;
      p.start[line * plane + i % plane] = state;
      state = p.end[line * plane + i % plane] + (p.resets && p.resets[line] ? Math(0) : decayed);
    }
    if (p.last) p.last[i] = state;
  }
}

template <class Math, class T>
__global__ void sum_kernel(const Math* in, int64_t parts, int64_t size, T* out, int64_t run, int64_t stride) {
  for (int64_t i = first_element(); i < size; i += element_step()) {
    Math sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += in[part * size + i];
    out[i / run * stride + i % run] = from_math<T>(sum);
  }
}

// A block a row: finds the first position that is not padding, behind which other ids start runs without a state.
__global__ void step_kernel(const int32_t* seq_idx, int64_t length, StepKind* step) {
  __shared__ int64_t first_of_warp[kThreads / 32];
  const int32_t* id = seq_idx + blockIdx.x * length;
  int64_t first = length;
  for (int64_t t = threadIdx.x; t < length && first == length; t += kThreads)
    if (id[t] >= 0) first = t;
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const int64_t other = __shfl_xor_sync(~0u, first, lanes);
    first = other < first ? other : first;
  }
  if (threadIdx.x % 32 == 0) first_of_warp[threadIdx.x / 32] = first;
  __syncthreads();
  for (const int64_t other : first_of_warp) first = other < first ? other : first;
  for (int64_t t = threadIdx.x; t < length; t += kThreads)
    step[blockIdx.x * length + t] = id[t] < 0                         ? StepKind::kPadding
                                    : t > first && id[t] != id[t - 1] ? StepKind::kReset
                                                                      : StepKind::kGoOn;
}

}  // namespace

template <typename T>
int64_t walk_block_channels(int64_t states) {
  return with_instance(states, [](auto n) { return scan::Instance<T, decltype(n)::value>::walk_channels(); });
}
template <typename T>
int64_t backward_block_channels(int64_t states) {
  return with_instance(states, [](auto n) { return scan::Instance<T, decltype(n)::value>::backward_channels(); });
}

template <typename T>
cudaError_t scan_walk(const ScanProblem<T>& p, const ScanWalk<T>& w, cudaStream_t stream) {
  return with_instance(p.states, [&](auto n) { return scan::Instance<T, decltype(n)::value>::walk(p, w, stream); });
}
template <typename T>
cudaError_t scan_backward(const ScanProblem<T>& p, const ScanBackward<T>& w, cudaStream_t stream) {
  return with_instance(p.states, [&](auto n) { return scan::Instance<T, decltype(n)::value>::backward(p, w, stream); });
}

template <typename Math>
cudaError_t scan_chain(const ScanChain<Math>& p, cudaStream_t stream) {
  if (p.states == 0) return cudaSuccess;
  return launch(chain_kernel<Math>, blocks_for(p.batch * p.channels * p.states), dim3(kThreads), 0, stream, p);
}

template <typename Math, typename T>
cudaError_t sum_parts(const Math* in, int64_t parts, int64_t size, T* out, int64_t run, int64_t stride,
                      cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  return launch(sum_kernel<Math, T>, blocks_for(size), dim3(kThreads), 0, stream, in, parts, size, out, run, stride);
}

cudaError_t step_kinds(const int32_t* seq_idx, int64_t batch, int64_t length, StepKind* step, cudaStream_t stream) {
  return launch(step_kernel, dim3(static_cast<unsigned>(batch)), dim3(kThreads), 0, stream, seq_idx, length, step);
}

#define VLMAMBA_INSTANTIATE(T)                                                                     \
  template int64_t walk_block_channels<T>(int64_t);                                                \
  template int64_t backward_block_channels<T>(int64_t);                                            \
  template cudaError_t scan_walk(const ScanProblem<T>&, const ScanWalk<T>&, cudaStream_t);         \
  template cudaError_t scan_backward(const ScanProblem<T>&, const ScanBackward<T>&, cudaStream_t); \
  template cudaError_t sum_parts(const MathType<T>*, int64_t, int64_t, T*, int64_t, int64_t, cudaStream_t)

VLMAMBA_INSTANTIATE(float);
VLMAMBA_INSTANTIATE(double);
VLMAMBA_INSTANTIATE(__half);
VLMAMBA_INSTANTIATE(__nv_bfloat16);
template cudaError_t scan_chain(const ScanChain<float>&, cudaStream_t);
template cudaError_t scan_chain(const ScanChain<double>&, cudaStream_t);

}  // namespace vlmamba::cuda
