#pragma once

// The gradients of one direction. A block goes from the last tile of its segment to the first: it walks the tile
// forward from the state that is kept before it, keeping a state for every few steps; then, so many steps at a time, it
// recomputes the decays and the decayed states a h' (never as h - b u, which would cancel where a is small) and goes
// back.

#include "kernels/cuda/selective_scan_instance.h"
#include "kernels/cuda/selective_scan_tile.h"

namespace vlmamba::cuda::scan {

template <class T>
constexpr int kPieceSteps = std::is_same_v<T, double> ? 2 : 4;  // whose decays are in registers at once

template <class T, int kN>
constexpr int backward_warps() {
  constexpr int kMost = kN == 256 ? 4 : 128 / Geometry<kN>::kWarpChannels;
  constexpr int kWarps = kMost < 8 ? kMost : 8;
  return !std::is_same_v<T, double> ? kWarps : kN == 256 ? 1 : kWarps / 2;
}
template <class T, int kN>
constexpr int kBackwardWarps = backward_warps<T, kN>();
template <class T, int kN>
constexpr int kBackwardChannels = kBackwardWarps<T, kN>* Geometry<kN>::kWarpChannels;

// Blocks that a processor must be able to hold: bounds the registers. Before compute capability 9.0 its shared memory
// takes one block of 16 states or more.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <class T>
constexpr int kBackwardBlocks = 1;
#else
template <class T>
constexpr int kBackwardBlocks = std::is_same_v<T, double> ? 1 : 2;
#endif

template <class T, int kN>
struct BackwardShared {
  using Math = MathType<T>;
  static constexpr int kBlock = kBackwardChannels<T, kN>, kWarps = kBackwardWarps<T, kN>;
  static constexpr int kPiece = kPieceSteps<T>, kPieces = kScanTile / kPiece;
  static_assert(kScanTile % kPiece == 0);
  alignas(16) Math kept[kPieces * Geometry<kN>::kStates * Geometry<kN>::kChannels * kWarps * 32];
  alignas(16) Math parts[2][kPiece * kWarps * 2 * kN];  // dB and dC of every warp; two turns, so that one barrier does
  alignas(16) Math delta[kScanTile * kBlock];
  alignas(16) Math input[kScanTile * kBlock];  // what B multiplies; its gradient takes its place
  alignas(16) Math dy[kScanTile * kBlock];     // behind the gate; the gradient of log2 of the decays takes its place
  alignas(16) Math y[kScanTile * kBlock];      // before the gate, without D u
  alignas(16) Math b[kScanTile * kN];
  alignas(16) Math c[kScanTile * kN];
  Math dskip[kWarps * 32], dbias[kWarps * 32];  // a thread's sums over its steps; registers are scarce
  int position[2][kScanTile];
  StepKind kind[2][kScanTile];
};

template <class T, int kN>
struct Backward {
  using G = Geometry<kN>;
  using Math = MathType<T>;
  using Shared = BackwardShared<T, kN>;
  static constexpr int kBlock = Shared::kBlock, kWarps = Shared::kWarps, kThreads = kWarps * 32;
  static constexpr int kPiece = Shared::kPiece;
  static constexpr int kOwn = G::kStates * G::kChannels, kWide = G::kStates < 4 ? G::kStates : 4;
  using States = Math[G::kChannels][G::kStates];

  const ScanProblem<T>& p;
  const ScanBackward<T>& w;
  const Place at;
  const Lane<kN> own;
  Shared& shared;
  States a, dh, da;
  const int* position = nullptr;  // of the tile
  const StepKind* kind = nullptr;
  int turn = 0;

  __device__ __forceinline__ Backward(const ScanProblem<T>& problem, const ScanBackward<T>& backward, Shared& memory)
      : p(problem), w(backward), at(place_of_block(problem, backward.segments, kBlock)), own(), shared(memory) {}

  __device__ __forceinline__ bool has_channel() const { return own.row_channel < at.count; }
  // kRuns: whether there are run boundaries at all; the code without them has no test for them at every step.
  template <bool kRuns>
  __device__ __forceinline__ bool resets(int t) const {
    return kRuns && kind[t] == StepKind::kReset;
  }

  // The element of this thread's channel at step t.
  template <class Element>
  __device__ __forceinline__ Element& element(const Rows<Element>& rows, int t, int64_t direction) const {
    return row_at(rows, at.row, position[t], direction)[at.channel + own.row_channel];
  }

  // The tile in the type of the arithmetic. Padding and what lies behind the end are steps that change nothing: zeros.
  __device__ __forceinline__ void prepare(int steps) {
    const Math bias = parameter(p.delta_bias, p, w.direction, at, own);
#pragma unroll 2
    for (int t = own.row_step; t < kScanTile; t += G::kRowSteps) {
      const int i = t * kBlock + own.row_channel;
      Math delta = 0, input = 0, dy = 0;
      if (has_channel() && t < steps && kind[t] != StepKind::kPadding) {
        delta = to_math(element(p.delta, t, w.direction)) + bias;
        if (p.delta_softplus) delta = softplus(delta);
        input = delta * to_math(element(p.u, t, w.direction));
        dy = to_math(element(w.dy, t, w.direction));
        if (p.z.data) {
          const Math z = to_math(element(p.z, t, 0));
          dy *= z * sigmoid(z);
        }
      }
      shared.delta[i] = delta;
      shared.input[i] = input;
      shared.dy[i] = dy;
    }
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kScanTile * kN; i += kThreads) {
      const int t = i / kN, n = i % kN;
      const bool exists = t < steps && n < p.states && kind[t] != StepKind::kPadding;
      shared.b[i] = exists ? to_math(row_at(p.b, at.row, position[t], w.direction, at.group)[n]) : Math(0);
      shared.c[i] = exists ? to_math(row_at(p.c, at.row, position[t], w.direction, at.group)[n]) : Math(0);
    }
  }

  // One step forward: the decays, the decayed states, and in h the new ones.
  template <bool kRuns>
  __device__ __forceinline__ void advance(int t, States& h, States& decay, States& decayed) const {
    auto delta = read_vector<G::kChannels>(&shared.delta[t * kBlock + own.channel]);
    const auto input = read_vector<G::kChannels>(&shared.input[t * kBlock + own.channel]);
    if (resets<kRuns>(t)) {  // with a decay of 1: an infinite one times no state is NaN
      clear(h);
#pragma unroll
      for (int c = 0; c < G::kChannels; ++c) delta.v[c] = 0;
    }
#pragma unroll
    for (int first = 0; first < G::kStates; first += kWide) {
      const auto b = read_vector<kWide>(&shared.b[t * kN + own.state(first)]);
#pragma unroll
      for (int c = 0; c < G::kChannels; ++c) {
#pragma unroll
        for (int j = 0; j < kWide; ++j) {
          const int i = first + j;
          decay[c][i] = exp2_approx(delta.v[c] * a[c][i]);
          decayed[c][i] = decay[c][i] * h[c][i];
          h[c][i] = decayed[c][i] + b.v[j] * input.v[c];
        }
      }
    }
  }

  __device__ __forceinline__ Math& kept(int piece, int i) const {
    return shared
        .kept[((piece * kOwn + i / kWide * kWide) * kThreads) + static_cast<int>(threadIdx.x) * kWide + i % kWide];
  }

  // Keeps the states before every piece of the tile.
  template <bool kRuns>
  __device__ __forceinline__ void keep_states(int tile, int pieces) {
    const int64_t tiles = (p.length + kScanTile - 1) / kScanTile;
    const Math* from = w.saved + (at.row * tiles + tile) * p.channels * p.states;
    States h, decay, decayed;
#pragma unroll
    for (int c = 0; c < G::kChannels; ++c)
#pragma unroll
      for (int i = 0; i < G::kStates; ++i) h[c][i] = read_state(from, at, own, c, i, p.states);
    for (int piece = 0; piece < pieces; ++piece) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) kept(piece, i) = h[i / G::kStates][i % G::kStates];
      if (piece + 1 == pieces) break;
#pragma unroll
      for (int j = 0; j < kPiece; ++j) advance<kRuns>(piece * kPiece + j, h, decay, decayed);
    }
  }

  // One step back. Leaves in shared memory what finish() needs, and this warp's share of dB and dC.
  template <bool kRuns>
  __device__ __forceinline__ void go_back(int t, const States& decay, const States& decayed) {
    const int at_step = t * kBlock + own.channel;
    const auto delta = read_vector<G::kChannels>(&shared.delta[at_step]);
    const auto input = read_vector<G::kChannels>(&shared.input[at_step]);
    const auto dy = read_vector<G::kChannels>(&shared.dy[at_step]);
    Math over_states[2 * G::kChannels] = {};  // of dinput, then of ddecay
    Math over_channels[2 * G::kStates] = {};  // of dB, then of dC
    Math y[G::kChannels] = {};
#pragma unroll
    for (int first = 0; first < G::kStates; first += kWide) {
      const auto b = read_vector<kWide>(&shared.b[t * kN + own.state(first)]);
      const auto c = read_vector<kWide>(&shared.c[t * kN + own.state(first)]);
#pragma unroll
      for (int channel = 0; channel < G::kChannels; ++channel) {
#pragma unroll
        for (int j = 0; j < kWide; ++j) {
          const int i = first + j;
          const Math h = decayed[channel][i] + b.v[j] * input.v[channel];
          dh[channel][i] += c.v[j] * dy.v[channel];
          over_channels[i] += dh[channel][i] * input.v[channel];
          over_channels[G::kStates + i] += h * dy.v[channel];
          over_states[channel] += b.v[j] * dh[channel][i];
          y[channel] += c.v[j] * h;
        }
      }
    }
    if (resets<kRuns>(t)) clear(dh);  // before it meets what lies before the run: NaN times zero is NaN
#pragma unroll
    for (int channel = 0; channel < G::kChannels; ++channel) {
#pragma unroll
      for (int i = 0; i < G::kStates; ++i) {
        const Math slope = dh[channel][i] * decayed[channel][i];
        da[channel][i] += delta.v[channel] * slope;
        over_states[G::kChannels + channel] += a[channel][i] * slope;
        dh[channel][i] *= decay[channel][i];
      }
    }
    store_sums(t, over_states, y, over_channels);
  }

  __device__ __forceinline__ void store_sums(int t, Math (&over_states)[2 * G::kChannels], Math (&y)[G::kChannels],
                                             Math (&over_channels)[2 * G::kStates]) {
    const int at_step = t * kBlock + own.channel;
    sum_over_lanes<2 * G::kChannels, G::kLanes, 1>(over_states, own.lane);
    const int held = held_by<2 * G::kChannels, G::kLanes, 1>(own.lane);
#pragma unroll
    for (int j = 0; j < kHeld<2 * G::kChannels, G::kLanes>; ++j) {
      const int which = held + j;
      Math* to = which < G::kChannels ? shared.input : shared.dy;
      if (own.states < 2 * G::kChannels) to[at_step + which % G::kChannels] = over_states[j];
    }
    if (p.z.data) {
      sum_over_lanes<G::kChannels, G::kLanes, 1>(y, own.lane);
      if (own.states < G::kChannels) shared.y[at_step + own.states] = y[0];
    }
    constexpr int kWidth = 32 / G::kLanes;
    sum_over_lanes<2 * G::kStates, kWidth, G::kLanes>(over_channels, own.lane);
    const int first = held_by<2 * G::kStates, kWidth, G::kLanes>(own.lane);
    Math* to = shared.parts[turn] + (t % kPiece * kWarps + own.warp) * 2 * kN;
#pragma unroll
    for (int j = 0; j < kHeld<2 * G::kStates, kWidth>; ++j) {
      const int which = first + j;
      if (own.lane / G::kLanes < 2 * G::kStates)
        to[which / G::kStates * kN + own.state(which % G::kStates)] = over_channels[j];
    }
  }

  // Adds the warps' shares of a piece in their order.
  __device__ __forceinline__ void write_parts(int piece, int steps) {
    const int64_t part = at.part * p.batch * p.length * p.groups * p.states;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kPiece * 2 * kN; i += kThreads) {
      const int j = i / (2 * kN), n = i % kN, t = piece * kPiece + j;
      if (t >= steps || n >= p.states) continue;
      Math sum = 0;
      for (int warp = 0; warp < kWarps; ++warp) sum += shared.parts[turn][(j * kWarps + warp) * 2 * kN + i % (2 * kN)];
      Math* to = i % (2 * kN) < kN ? w.db : w.dc;
      to[part + ((at.row * p.length + position[t]) * p.groups + at.group) * p.states + n] =
          kind[t] == StepKind::kPadding ? Math(0) : sum;
    }
  }

  // The gradients of the rows, rounded once.
  __device__ __forceinline__ void finish(int steps) {
    if (!has_channel()) return;
    const Math bias = parameter(p.delta_bias, p, w.direction, at, own),
               skip = parameter(p.skip, p, w.direction, at, own);
    Math dskip = 0, dbias = 0;
#pragma unroll 2
    for (int t = own.row_step; t < steps; t += G::kRowSteps) {
      const int i = t * kBlock + own.row_channel;
      Math du = 0, ddelta = 0, dz = 0;
      if (kind[t] != StepKind::kPadding) {
        const Math u = to_math(element(p.u, t, w.direction)), dinput = shared.input[i];
        Math dy = to_math(element(w.dy, t, w.direction));
        if (p.z.data) {
          const Math z = to_math(element(p.z, t, 0)), gate = sigmoid(z);
          dz = dy * (p.skip ? shared.y[i] + skip * u : shared.y[i]) * gate * (1 + z * (1 - gate));
          dy *= z * gate;
        }
        du = shared.delta[i] * dinput;
        if (p.skip) du += skip * dy;
        ddelta = u * dinput + shared.dy[i] * Math(0.693147180559945309417);
        if (p.delta_softplus) {
          const Math delta = to_math(element(p.delta, t, w.direction)) + bias;
          if (!(delta > 20)) ddelta *= sigmoid(delta);
        }
        dskip += dy * u;
        dbias += ddelta;
      }
      if (w.dz.data) element(w.dz, t, 0) = from_math<T>(dz);
      element(w.ddelta, t, w.direction) = from_math<T>(ddelta);
      Math* sum =
          w.du_sum ? w.du_sum + (at.row * p.length + position[t]) * p.channels + at.channel + own.row_channel : nullptr;
      if (sum && w.direction > 0) du += *sum;
      if (sum && w.direction + 1 < p.directions) {
        *sum = du;
      } else {
        element(w.du, t, w.direction) = from_math<T>(du);
      }
    }
    shared.dskip[threadIdx.x] += dskip;
    shared.dbias[threadIdx.x] += dbias;
  }

  __device__ __forceinline__ void begin() {
    const int64_t line = at.row * w.segments + at.segment, k = w.direction;
    const Math* dend = w.dend ? w.dend + line * p.channels * p.states : nullptr;
    const Math* rates = p.a + k * p.channels * p.states;
#pragma unroll
    for (int c = 0; c < G::kChannels; ++c)
#pragma unroll
      for (int i = 0; i < G::kStates; ++i) {
        a[c][i] = read_state(rates, at, own, c, i, p.states) * Math(1.44269504088896340736);
        dh[c][i] = read_state(dend, at, own, c, i, p.states);
      }
    clear(da);
    shared.dskip[threadIdx.x] = shared.dbias[threadIdx.x] = 0;
  }

  __device__ __forceinline__ void end() {
    const int64_t line = at.row * w.segments + at.segment;
#pragma unroll
    for (int c = 0; c < G::kChannels; ++c)
#pragma unroll
      for (int i = 0; i < G::kStates; ++i) {
        if (w.da) write_state(w.da + line * p.channels * p.states, at, own, c, i, p.states, da[c][i]);
        if (w.dstart && at.segment == 0)
          write_state(w.dstart + at.row * p.channels * p.states, at, own, c, i, p.states, dh[c][i]);
      }
    Math sums[2][1] = {{shared.dskip[threadIdx.x]}, {shared.dbias[threadIdx.x]}};
    sum_over_lanes<1, G::kRowSteps, G::kWarpChannels>(sums[0], own.lane);
    sum_over_lanes<1, G::kRowSteps, G::kWarpChannels>(sums[1], own.lane);
    if (!has_channel() || own.row_step != 0) return;
    const int64_t channel = line * p.channels + at.channel + own.row_channel;
    if (w.dskip) w.dskip[channel] = sums[0][0];
    if (w.ddelta_bias) w.ddelta_bias[channel] = sums[1][0];
  }

  template <bool kRuns>
  __device__ __forceinline__ void run_piece(int piece) {
    States h, decay[kPiece], decayed[kPiece];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) h[i / G::kStates][i % G::kStates] = kept(piece, i);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) advance<kRuns>(piece * kPiece + j, h, decay[j], decayed[j]);
#pragma unroll
    for (int j = kPiece - 1; j >= 0; --j) go_back<kRuns>(piece * kPiece + j, decay[j], decayed[j]);
  }

  template <bool kRuns>
  __device__ __forceinline__ void walk_tile(int tile, int pieces, int steps) {
    keep_states<kRuns>(tile, pieces);
    for (int piece = pieces - 1; piece >= 0; --piece) {
      run_piece<kRuns>(piece);
      __syncthreads();
      write_parts(piece, steps);
      turn ^= 1;
    }
  }

  __device__ __forceinline__ void run_tile(int tile, int steps) {
    const int side = tile % 2, pieces = (steps + kPiece - 1) / kPiece;
    position = shared.position[side];
    kind = shared.kind[side];
#pragma unroll 1
    for (int t = static_cast<int>(threadIdx.x); t < kScanTile; t += kThreads) {
      shared.kind[side][t] = StepKind::kGoOn;  // behind the end too: the last piece asks every step whether it resets
      if (t >= steps) continue;
      const int64_t pixel = position_of(p, w.direction, tile * kScanTile + t);
      shared.position[side][t] = static_cast<int>(pixel);
      if (p.step) shared.kind[side][t] = p.step[at.row * p.length + pixel];
    }
    __syncthreads();
    prepare(steps);
    __syncthreads();
    if (p.step) {
      walk_tile<true>(tile, pieces, steps);
    } else {
      walk_tile<false>(tile, pieces, steps);
    }
    finish(steps);
  }

  __device__ __forceinline__ void run() {
    const int length = static_cast<int>(w.segment_length), first = at.segment * length;
    const int left = static_cast<int>(p.length) - first, last = first + (left < length ? left : length);
    begin();
    for (int tile = (last - 1) / kScanTile; tile >= first / kScanTile; --tile)
      run_tile(tile, min(last - tile * kScanTile, kScanTile));
    end();
  }
};

template <class T, int kN>
__global__ void __launch_bounds__(kBackwardWarps<T, kN> * 32, kBackwardBlocks<T>)
    scan_backward_kernel(const ScanProblem<T> p, const ScanBackward<T> w) {
  Backward<T, kN>(p, w, *dynamic_shared<BackwardShared<T, kN>>()).run();
}

template <class T, int kN>
int64_t Instance<T, kN>::backward_channels() {
  return kBackwardChannels<T, kN>;
}

template <class T, int kN>
cudaError_t Instance<T, kN>::backward(const ScanProblem<T>& p, const ScanBackward<T>& w, cudaStream_t stream) {
  const int64_t blocks = blocks_of(p, kBackwardChannels<T, kN>) * w.segments;
  return launch(scan_backward_kernel<T, kN>, dim3(static_cast<unsigned>(blocks)), dim3(kBackwardWarps<T, kN> * 32),
                sizeof(BackwardShared<T, kN>), stream, p, w);
}

}  // namespace vlmamba::cuda::scan
