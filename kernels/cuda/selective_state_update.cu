// One step of the selective scan: as many neighbouring lanes as cover the states work on a channel, four states each
// where they are aligned, so that the state, which is nearly all of the traffic, moves in whole lines.

#include "kernels/cuda/activation.h"
#include "kernels/cuda/selective_state_update.h"
#include "kernels/cuda/tasks.h"
#include "kernels/cuda/vector.h"

namespace vlmamba::cuda {
namespace {

constexpr int kVector = 4;

template <class T, int kWidth>
__global__ __launch_bounds__(kTaskThreads) void update(StateUpdate<T> p, int lanes) {
  using Math = MathType<T>;
  constexpr Math kLog2E = Math(1.44269504088896340736);
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t total = p.batch * p.channels, stride = int64_t{gridDim.x} * (kTaskThreads / lanes);
  // All threads of a warp make as many rounds: they exchange sums.
  for (int64_t begin = int64_t{blockIdx.x} * (kTaskThreads / lanes); begin < total; begin += stride) {
    const int64_t index = begin + threadIdx.x / lanes;
    const bool exists = index < total;
    const int64_t row = index / p.channels, channel = index % p.channels;
    Math sum = 0, u = 0;
    if (exists) {
      u = to_math(p.u[index]);
      Math dt = to_math(p.delta[index]) + (p.delta_bias ? p.delta_bias[channel] : 0);
      if (p.softplus) dt = softplus(dt);
      const int64_t group = (row * p.groups + channel / (p.channels / p.groups)) * p.states;
      for (int64_t n = int64_t{lane} * kWidth; n < p.states; n += int64_t{lanes} * kWidth) {
        Math h[kWidth], A[kWidth], B[kWidth], C[kWidth];
        load(p.state + index * p.states + n, h), load(p.A + channel * p.states + n, A);
        load(p.B + group + n, B), load(p.C + group + n, C);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          h[i] = exp2_approx(dt * A[i] * kLog2E) * h[i] + dt * u * B[i];
          sum += C[i] * h[i];
        }
        store(p.state + index * p.states + n, h);
      }
    }
    for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (!exists || lane > 0) continue;
    if (p.D) sum += p.D[channel] * u;
    if (p.z) sum *= silu(to_math(p.z[index]));
    p.y[index] = from_math<T>(sum);
  }
}

template <class T, int kWidth>
cudaError_t update_of_width(const StateUpdate<T>& p, cudaStream_t stream) {
  int lanes = 1;
  while (lanes < 32 && int64_t{lanes} * kWidth < p.states) lanes *= 2;
  return launch(update<T, kWidth>, task_blocks(p.batch * p.channels * lanes), kTaskThreads, 0, stream, p, lanes);
}

}  // namespace

template <class T>
cudaError_t selective_state_update(const StateUpdate<T>& p, cudaStream_t stream) {
  if (p.batch * p.channels == 0) return cudaSuccess;
  if (fits_vectors(kVector, sizeof(T), p.states, {p.B, p.C}) &&
      fits_vectors(kVector, sizeof(MathType<T>), p.states, {p.state, p.A}))
    return update_of_width<T, kVector>(p, stream);
  return update_of_width<T, 1>(p, stream);
}

template cudaError_t selective_state_update(const StateUpdate<float>&, cudaStream_t);
template cudaError_t selective_state_update(const StateUpdate<double>&, cudaStream_t);
template cudaError_t selective_state_update(const StateUpdate<__half>&, cudaStream_t);
template cudaError_t selective_state_update(const StateUpdate<__nv_bfloat16>&, cudaStream_t);

}  // namespace vlmamba::cuda
