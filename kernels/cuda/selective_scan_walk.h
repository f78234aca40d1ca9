#pragma once

// The walk through time that gives outputs, states, or, backwards, what each segment passes to the one before it.
// Rows of the next tile travel to shared memory while a tile is walked.

#include "kernels/cuda/selective_scan_instance.h"
#include "kernels/cuda/selective_scan_tile.h"

namespace vlmamba::cuda::scan {

template <class T>
constexpr int kWalkWarps = std::is_same_v<T, double> ? 2 : 4;
// Blocks that a processor must be able to hold: bounds the registers. What gives no outputs would spill with one more.
template <class T, ScanPass kPass>
constexpr int kWalkBlocks = std::is_same_v<T, double>     ? 1
                            : kPass == ScanPass::kOutputs ? 5
                                                          : 4;
template <class T, int kN>
constexpr int kWalkChannels = kWalkWarps<T>* Geometry<kN>::kWarpChannels;

template <class T, int kN>
struct WalkShared {
  using Math = MathType<T>;
  static constexpr int kBlock = kWalkChannels<T, kN>;
  static constexpr bool kStagesStates = kN <= 64;  // else B and C are too large to be there twice
  static constexpr int kStaged = kStagesStates ? kScanTile * kN : 1;
  struct Raw {                            // as it lies in global memory, until the tile is finished
    alignas(16) T u[kScanTile * kBlock];  // dy for the adjoint
    alignas(16) T z[kScanTile * kBlock];
    int position[kScanTile];
    StepKind kind[kScanTile];
  };
  Raw raw[2];
  alignas(16) T raw_delta[kScanTile * kBlock];  // free again once the tile is prepared
  alignas(16) T raw_b[kStaged];
  alignas(16) T raw_c[kStaged];
  alignas(16) Math delta[kScanTile * kBlock];
  alignas(16) Math input[kScanTile * kBlock];  // what B multiplies; y takes its place
  alignas(16) Math b[kScanTile * kN];
  alignas(16) Math c[kScanTile * kN];
};

template <class T, int kN, ScanPass kPass>
struct Walk {
  using G = Geometry<kN>;
  using Math = MathType<T>;
  using Shared = WalkShared<T, kN>;
  static constexpr int kBlock = Shared::kBlock;
  static constexpr bool kBackwards = kPass == ScanPass::kAdjoint;

  const ScanProblem<T>& p;
  const ScanWalk<T>& w;
  const Place at;
  const Lane<kN> own;
  Shared& shared;
  int k = 0;  // direction
  Math a[G::kChannels][G::kStates], h[G::kChannels][G::kStates], delta_sum[G::kChannels];
  bool run_starts = false;

  __device__ __forceinline__ Walk(const ScanProblem<T>& problem, const ScanWalk<T>& walk, Shared& memory)
      : p(problem), w(walk), at(place_of_block(problem, walk.segments, kBlock)), own(), shared(memory) {}

  __device__ __forceinline__ bool has_channel() const { return own.row_channel < at.count; }

  // Queues the copies of the tile that starts at step `first`. Threads without a row to describe go on: the barrier
  // stands behind the positions, which all need.
  __device__ __forceinline__ void stage(typename Shared::Raw& raw, int first, int steps) {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < steps; i += static_cast<int>(blockDim.x)) {
      const int64_t position = position_of(p, k, first + i);
      raw.position[i] = static_cast<int>(position);
      raw.kind[i] = p.step ? p.step[at.row * p.length + position] : StepKind::kGoOn;
    }
    __syncthreads();
    const auto rows = [&](const Rows<const T>& from) { return row_at(from, at.row, 0, k) + at.channel; };
    const auto copy = [&](T* tile, const Rows<const T>& from) {
      stage_rows<kBlock>(tile, rows(from), from.position, raw.position, steps, at.count);
    };
    const auto copy_states = [&](T* tile, const Rows<const T>& from) {
      stage_rows<kN>(tile, row_at(from, at.row, 0, k, at.group), from.position, raw.position, steps,
                     static_cast<int>(p.states));
    };
    copy(raw.u, kPass == ScanPass::kAdjoint ? w.dy : p.u);
    copy(shared.raw_delta, p.delta);
    if (p.z.data && kPass != ScanPass::kStates) copy(raw.z, p.z);
    if constexpr (Shared::kStagesStates) {
      if (kPass != ScanPass::kAdjoint) copy_states(shared.raw_b, p.b);
      if (kPass != ScanPass::kStates) copy_states(shared.raw_c, p.c);
    }
    commit_copies();
  }

  // The tile in the type of the arithmetic: time steps, inputs, B and C. What does not exist is zero.
  __device__ __forceinline__ void prepare(const typename Shared::Raw& raw, int steps) {
    const Math bias = parameter(p.delta_bias, p, k, at, own);
#pragma unroll 1
    for (int t = own.row_step; t < steps; t += G::kRowSteps) {
      const int i = t * kBlock + own.row_channel;
      Math delta = 0, input = 0;
      if (has_channel()) {
        delta = to_math(shared.raw_delta[i]) + bias;
        if (p.delta_softplus) delta = softplus(delta);
        input = to_math(raw.u[i]);
        if (kPass != ScanPass::kAdjoint) {
          input *= delta;
          if (raw.kind[t] == StepKind::kReset) delta = 0;  // an infinite decay times no state is NaN
        } else if (p.z.data) {
          const Math z = to_math(raw.z[i]);
          input *= z * sigmoid(z);
        }
      }
      shared.delta[i] = delta;
      shared.input[i] = input;
    }
    if (kPass != ScanPass::kAdjoint) prepare_states(shared.b, shared.raw_b, p.b, raw.position, steps);
    if (kPass != ScanPass::kStates) prepare_states(shared.c, shared.raw_c, p.c, raw.position, steps);
  }

  __device__ __forceinline__ void prepare_states(Math* to, const T* staged, const Rows<const T>& rows,
                                                 const int* position, int steps) {
    const T* from = row_at(rows, at.row, 0, k, at.group);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < steps * kN; i += static_cast<int>(blockDim.x)) {
      const int t = i / kN, n = i % kN;
      Math value = 0;
      if (n < p.states) value = to_math(Shared::kStagesStates ? staged[i] : from[position[t] * rows.position + n]);
      to[i] = value;
    }
  }

  __device__ __forceinline__ void step(int t) {
    constexpr int kWide = G::kStates < 4 ? G::kStates : 4;
    const int i = t * kBlock + own.channel;
    const auto delta = read_vector<G::kChannels>(&shared.delta[i]);
    const auto input = read_vector<G::kChannels>(&shared.input[i]);
    Math y[G::kChannels] = {};
#pragma unroll
    for (int first = 0; first < G::kStates; first += kWide) {
      const int n = t * kN + own.state(first);
      const auto b = read_vector<kWide>(kPass == ScanPass::kAdjoint ? &shared.c[n] : &shared.b[n]);
      auto c = b;
      if constexpr (kPass == ScanPass::kOutputs) c = read_vector<kWide>(&shared.c[n]);
#pragma unroll
      for (int channel = 0; channel < G::kChannels; ++channel) {
#pragma unroll
        for (int j = 0; j < kWide; ++j) {
          const Math decay = exp2_approx(delta.v[channel] * a[channel][first + j]);
          Math& state = h[channel][first + j];
          if constexpr (kPass == ScanPass::kAdjoint) {
            state = decay * (state + b.v[j] * input.v[channel]);
          } else {
            state = decay * state + b.v[j] * input.v[channel];
          }
          if constexpr (kPass == ScanPass::kOutputs) y[channel] += c.v[j] * state;
        }
      }
    }
    if constexpr (kPass == ScanPass::kOutputs) {
      sum_over_lanes<G::kChannels, G::kLanes, 1>(y, own.lane);
      if (own.states < G::kChannels) shared.input[i + own.states] = y[0];
    } else {
#pragma unroll
      for (int channel = 0; channel < G::kChannels; ++channel) delta_sum[channel] += delta.v[channel];
    }
  }

  __device__ __forceinline__ void forget() {
    clear(h);
    run_starts = true;
  }

  __device__ __forceinline__ void walk_tile(const typename Shared::Raw& raw, int steps) {
    if (p.step == nullptr) {
#pragma unroll 2
      for (int i = 0; i < steps; ++i) step(kBackwards ? steps - 1 - i : i);
      return;
    }
    for (int i = 0; i < steps; ++i) {
      const int t = kBackwards ? steps - 1 - i : i;
      const StepKind kind = raw.kind[t];
      if (kind == StepKind::kPadding) continue;
      if (!kBackwards && kind == StepKind::kReset) forget();
      step(t);
      if (kBackwards && kind == StepKind::kReset) forget();
    }
  }

  // Adds D u, applies the gate, adds the directions before this one, and rounds once.
  __device__ __forceinline__ void finish(const typename Shared::Raw& raw, int steps) {
    if (!has_channel()) return;
    const int64_t channel = at.channel + own.row_channel;
    const Math skip = parameter(p.skip, p, k, at, own);
#pragma unroll 1
    for (int t = own.row_step; t < steps; t += G::kRowSteps) {
      const int i = t * kBlock + own.row_channel;
      const int64_t position = raw.position[t];
      Math y = 0;
      if (raw.kind[t] != StepKind::kPadding) {
        y = shared.input[i];
        if (p.skip) y += skip * to_math(raw.u[i]);
        if (p.z.data) {
          const Math z = to_math(raw.z[i]);
          y *= z * sigmoid(z);
        }
      }
      Math* sum = w.sum ? w.sum + (at.row * p.length + position) * p.channels + channel : nullptr;
      if (sum && k > 0) y += *sum;
      if (sum && k + 1 < p.directions) {
        *sum = y;
      } else {
        row_at(w.y, at.row, position, sum ? 0 : k)[channel] = from_math<T>(y);
      }
    }
  }

  __device__ __forceinline__ void save(int64_t tile) {
    const int64_t tiles = (p.length + kScanTile - 1) / kScanTile;
    Math* to = w.saved + (at.row * tiles + tile) * p.channels * p.states;
#pragma unroll
    for (int c = 0; c < G::kChannels; ++c)
#pragma unroll
      for (int i = 0; i < G::kStates; ++i) write_state(to, at, own, c, i, p.states, h[c][i]);
  }

  __device__ __forceinline__ void begin() {
    const int64_t line = at.row * w.segments + at.segment;
    const Math* start = w.start ? w.start + line * p.channels * p.states : nullptr;
#pragma unroll
    for (int c = 0; c < G::kChannels; ++c) {
      delta_sum[c] = 0;
#pragma unroll
      for (int i = 0; i < G::kStates; ++i) {
        h[c][i] = read_state(start, at, own, c, i, p.states);
        a[c][i] = read_state(p.a + k * p.channels * p.states, at, own, c, i, p.states) * Math(1.44269504088896340736);
      }
    }
  }

  __device__ __forceinline__ void end() {
    const int64_t line = at.row * w.segments + at.segment;
#pragma unroll
    for (int c = 0; c < G::kChannels; ++c) {
#pragma unroll
      for (int i = 0; i < G::kStates; ++i)
        if (w.end) write_state(w.end + line * p.channels * p.states, at, own, c, i, p.states, h[c][i]);
      if (w.delta_sum && own.states == 0 && own.channel + c < at.count)
        w.delta_sum[line * p.channels + at.channel + own.channel + c] = delta_sum[c];
    }
    if (w.resets && at.channel == 0 && threadIdx.x == 0) w.resets[line] = run_starts;
  }

  __device__ __forceinline__ void walk_segment() {
    const int length = static_cast<int>(w.segment_length), first = at.segment * length;
    const int left = static_cast<int>(p.length) - first, size = left < length ? left : length;
    const int tiles = (size + kScanTile - 1) / kScanTile;
    const auto tile_of = [&](int i) { return kBackwards ? tiles - 1 - i : i; };
    const auto steps_of = [&](int i) { return min(size - tile_of(i) * kScanTile, kScanTile); };
    begin();
    for (int i = -1; i < tiles; ++i) {
      if (i >= 0) {
        wait_copies<0>();
        __syncthreads();
        prepare(shared.raw[i % 2], steps_of(i));
      }
      if (i + 1 < tiles) {
        stage(shared.raw[(i + 1) % 2], first + tile_of(i + 1) * kScanTile,
              steps_of(i + 1));  // holds the barrier behind prepare
      } else {
        __syncthreads();
      }
      if (i < 0) continue;
      const auto& raw = shared.raw[i % 2];
      if constexpr (kPass == ScanPass::kStates) {
        if (w.saved) save(first / kScanTile + i);
      }
      walk_tile(raw, steps_of(i));
      if constexpr (kPass == ScanPass::kOutputs) {
        __syncwarp();
        finish(raw, steps_of(i));
      }
    }
    end();
  }
};

template <class T, int kN, ScanPass kPass>
__global__ void __launch_bounds__(kWalkWarps<T> * 32, kWalkBlocks<T, kPass>)
    scan_walk_kernel(const ScanProblem<T> p, const ScanWalk<T> w) {
  Walk<T, kN, kPass> walk(p, w, *dynamic_shared<WalkShared<T, kN>>());
  for (walk.k = static_cast<int>(w.first_direction); walk.k < w.last_direction; ++walk.k) {
    __syncthreads();  // sums of the direction before are read by other threads
    walk.walk_segment();
  }
}

template <class T, int kN>
int64_t Instance<T, kN>::walk_channels() {
  return kWalkChannels<T, kN>;
}

template <class T, int kN>
cudaError_t Instance<T, kN>::walk(const ScanProblem<T>& p, const ScanWalk<T>& w, cudaStream_t stream) {
  const auto kernel = w.pass == ScanPass::kOutputs  ? scan_walk_kernel<T, kN, ScanPass::kOutputs>
                      : w.pass == ScanPass::kStates ? scan_walk_kernel<T, kN, ScanPass::kStates>
                                                    : scan_walk_kernel<T, kN, ScanPass::kAdjoint>;
  const int64_t blocks = blocks_of(p, kWalkChannels<T, kN>) * w.segments;
  return launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kWalkWarps<T> * 32), sizeof(WalkShared<T, kN>),
                stream, p, w);
}

}  // namespace vlmamba::cuda::scan
