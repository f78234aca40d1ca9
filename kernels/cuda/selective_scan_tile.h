#pragma once

// What the scan's kernels share: which thread has which channels and states, where a step's values lie, and how a tile
// of steps gets into shared memory.

#include "kernels/cuda/selective_scan.h"

namespace vlmamba::cuda::scan {

// A warp holds kWarpChannels channels with all of their states, as 32 small rectangles: a thread has kStates states of
// each of kChannels channels. What is summed over states or over channels is then first summed within a thread. kN is
// the number of states, rounded up to the next instance; states that do not exist are zero.
template <int kN>
struct Geometry {
  static constexpr int kStates = kN == 1 ? 1 : kN == 256 ? 8 : 4;
  static constexpr int kChannels = kN == 1 || kN == 256 ? 1 : 2;
  static constexpr int kLanes = kN / kStates;  // neighbours that have the same channels
  static constexpr int kWarpChannels = 32 / kLanes * kChannels;
  static constexpr int kRowSteps = 32 / kWarpChannels;  // steps that a warp reads at once, channel by channel
};

// Neighbouring values, read at once.
template <class M, int kCount>
struct alignas(sizeof(M) * kCount < 16 ? sizeof(M) * kCount : 16) Vector {
  M v[kCount];
};
template <int kCount, class M>
__device__ __forceinline__ Vector<M, kCount> read_vector(const M* from) {
  return *reinterpret_cast<const Vector<M, kCount>*>(from);
}

// Adds v over the kWidth lanes that differ in the bits from kStride on. As long as a lane holds several of the kCount
// sums it keeps half of them and gives away the rest: it ends with sums held_by(lane), ... The order is fixed.
template <int kCount, int kWidth, int kStride, class M, int kSize>
__device__ __forceinline__ void sum_over_lanes(M (&v)[kSize], int lane) {
  if constexpr (kWidth > 1) {
    constexpr int kHalf = kCount > 1 ? kCount / 2 : 1;
    const bool upper = kCount > 1 && (lane & kStride) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const M keep = upper ? v[i + kCount - kHalf] : v[i], give = upper ? v[i] : v[i + kCount - kHalf];
      v[i] = keep + __shfl_xor_sync(~0u, give, kStride);
    }
    sum_over_lanes<kHalf, kWidth / 2, kStride * 2>(v, lane);
  }
}
template <int kCount, int kWidth, int kStride>
__device__ __forceinline__ int held_by(int lane) {
  if constexpr (kWidth > 1 && kCount > 1) {
    return (lane & kStride ? kCount / 2 : 0) + held_by<kCount / 2, kWidth / 2, kStride * 2>(lane);
  } else {
    return 0;
  }
}
template <int kCount, int kWidth>
constexpr int kHeld = kCount > kWidth ? kCount / kWidth : 1;

__device__ __forceinline__ float log1p_of_unit(float e) {      // log(1 + e) of 0 <= e <= 1 to full relative accuracy
  const float w = e * reciprocal_approx(e + 2.0f), s = w * w;  // log(1 + e) = 2 artanh(e / (e + 2)), w <= 1/3
  float p = s * 0.134257490f + 0.141183099f;
  p = p * s + 0.200037803f;
  p = p * s + 0.333333202f;
  return 2.0f * w + 2.0f * w * (s * p);
}
__device__ __forceinline__ double log1p_of_unit(double e) { return log1p(e); }

// exp(x) of x <= 0: the rounding of x log2(e) is made good.
__device__ __forceinline__ float exp_of_negative(float x) {
  constexpr float kHigh = 1.44269502f, kLow = 1.92596303e-8f, kLn2 = 0.693147181f;
  const float high = x * kHigh, low = fmaf(x, kHigh, -high) + x * kLow;
  const float e = exp2_approx(high);
  return e == 0.0f ? e : e + e * (low * kLn2);  // low is NaN where x is infinite
}
__device__ __forceinline__ double exp_of_negative(double x) { return exp(x); }

// log(1 + exp(x)); x itself above 20, as PyTorch and mamba_ssm do.
template <class M>
__device__ __forceinline__ M softplus(M x) {
  const M magnitude = x < 0 ? -x : x;
  const M rest = log1p_of_unit(exp_of_negative(-magnitude));
  return x > 20 ? x : x > 0 ? x + rest : rest;
}
__device__ __forceinline__ float sigmoid(float x) { return reciprocal_approx(1.0f + exp2_approx(x * -1.44269504f)); }
__device__ __forceinline__ double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// Where a block works: a row, a segment of it, and up to `count` channels of a group.
struct Place {
  int row, segment, part, group, channel, count;
};
template <class T>
int64_t blocks_of(const ScanProblem<T>& p, int64_t block_channels) {  // of one segment
  return (p.channels / p.groups + block_channels - 1) / block_channels * p.groups * p.batch;
}
template <class T>
__device__ __forceinline__ Place place_of_block(const ScanProblem<T>& p, int64_t segments, int block_channels) {
  const int size = static_cast<int>(p.channels / p.groups), parts = (size + block_channels - 1) / block_channels;
  const int across = parts * static_cast<int>(p.groups), cuts = static_cast<int>(segments);
  const int line = static_cast<int>(blockIdx.x) / across, block = static_cast<int>(blockIdx.x) % across;
  const int part = block % parts, group = block / parts, left = size - part * block_channels;
  return {line / cuts, line % cuts, part, group, group * size + part * block_channels, min(left, block_channels)};
}

// Where a thread works within its block.
template <int kN>
struct Lane {
  using G = Geometry<kN>;
  int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int states = lane % G::kLanes;                                            // which of the states
  int channel = warp * G::kWarpChannels + lane / G::kLanes * G::kChannels;  // first of its channels
  int row_channel = warp * G::kWarpChannels + lane % G::kWarpChannels;      // where it reads rows
  int row_step = lane / G::kWarpChannels;

  // The state of its i-th register: vectors of four lie lane by lane, so that neighbours read neighbouring vectors.
  __device__ __forceinline__ int state(int i) const {
    return G::kStates == 1 ? 0 : (i / 4 * G::kLanes + states) * 4 + i % 4;
  }
};

// The states of a thread from or to an array [D, N]; what does not exist is zero.
template <int kN, class M>
__device__ __forceinline__ M read_state(const M* from, const Place& at, const Lane<kN>& own, int c, int i,
                                        int64_t states) {
  const bool exists = from != nullptr && own.channel + c < at.count && own.state(i) < states;
  return exists ? from[(at.channel + own.channel + c) * states + own.state(i)] : M(0);
}
template <int kN, class M>
__device__ __forceinline__ void write_state(M* to, const Place& at, const Lane<kN>& own, int c, int i, int64_t states,
                                            M value) {
  if (own.channel + c < at.count && own.state(i) < states)
    to[(at.channel + own.channel + c) * states + own.state(i)] = value;
}

template <class M, int kChannels, int kStates>
__device__ __forceinline__ void clear(M (&states)[kChannels][kStates]) {
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
#pragma unroll
    for (int i = 0; i < kStates; ++i) states[c][i] = 0;
}

// The entry of the channel that a thread reads rows of, of an array [K, D]; zero where there is none.
template <class T, int kN, class M>
__device__ __forceinline__ M parameter(const M* of_channels, const ScanProblem<T>& p, int64_t k, const Place& at,
                                       const Lane<kN>& own) {
  if (of_channels == nullptr || own.row_channel >= at.count) return 0;
  return of_channels[k * p.channels + at.channel + own.row_channel];
}

// The position that step t of direction k reads: row-major, column-major, and both backwards.
template <class T>
__device__ __forceinline__ int64_t position_of(const ScanProblem<T>& p, int64_t k, int64_t t) {
  const int64_t direction = p.every_other ? 2 * k : k, forward = direction < 2 ? t : p.length - 1 - t;
  if (direction % 2 == 0) return forward;
  const auto step = static_cast<uint32_t>(forward), height = static_cast<uint32_t>(p.height);
  return static_cast<int64_t>(step % height) * p.width + step / height;
}

template <class T>
__device__ __forceinline__ T* row_at(const Rows<T>& rows, int64_t row, int64_t position, int64_t direction = 0,
                                     int64_t group = 0) {
  return rows.data + row * rows.row + position * rows.position + direction * rows.direction + group * rows.group;
}

// Queues copies of `count` neighbouring elements at each of the positions into the rows of a tile: 16 bytes at a time
// where the addresses allow it.
template <int kPitch, class T>
__device__ __forceinline__ void stage_rows(T* tile, const T* from, int64_t stride, const int* positions, int steps,
                                           int count) {
  constexpr int kVector = 16 / sizeof(T), kPieces = (kPitch + kVector - 1) / kVector;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < steps * kPieces; i += static_cast<int>(blockDim.x)) {
    const int step = i / kPieces, first = i % kPieces * kVector;
    T* to = tile + step * kPitch + first;
    const T* source = from + positions[step] * stride + first;
    if (kPitch % kVector == 0 && first + kVector <= count && reinterpret_cast<uintptr_t>(source) % 16 == 0) {
      copy_async_16(to, source);
    } else {
      for (int j = 0; j < kVector && first + j < count; ++j) to[j] = source[j];
    }
  }
}

}  // namespace vlmamba::cuda::scan
