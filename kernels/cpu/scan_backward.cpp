// The backward scans. A block goes forward once and keeps its states every kTile steps; then, from the last tile to the
// first, it computes the tile's states and decays again into cache and walks backward through them, a group of states
// in registers at a time. See registers.h for how this file is compiled.

#include "kernels/cpu/scan_block.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int64_t kTile = 16;

template <typename M>
struct Tile {
  Register<M> u[kTile], delta[kTile], input[kTile];  // input: delta u
  Register<M> slope[kTile];                          // of the softplus
  Register<M> y[kTile], dy[kTile], dgate[kTile];     // y, dy: before the gate; dgate: dz for a y of 1
  Register<M> dinput[kTile], ddecay[kTile];          // ddecay: of the decays' exponents, but for delta
  M b[kTile * kBackwardStates], c[kTile * kBackwardStates];
  Register<M> before[kTile * kBackwardStates], decay[kTile * kBackwardStates];  // before: the state that a step finds
};

// One block of a row, in one direction.
template <typename T>
struct Lane {
  using M = Math<T>;
  const ScanProblem<T>& p;
  const ScanGradients<T>& g;
  const Block block;
  const int64_t row, k;
  const Parameters<M>& own;
  const Mask<M> mask;
};

// What a block sums up over steps and rows: dA log2(e), the gradients of D and delta_bias.
template <typename M>
struct Sums {
  Register<M> dskip, dbias;
  Register<M>* da;  // [N]
};

template <typename T, typename M = Math<T>>
void read_inputs(const Lane<T>& lane, const Steps& steps, int64_t first, Tile<M>& tile) {
  const ScanProblem<T>& p = lane.p;
  const int64_t channel = lane.block.channel, width = lane.block.width;
  const int32_t* at = steps.at + first;
  for (int64_t t = 0; t < kTile; ++t) {
    if (first + t + kTile < steps.count) {
      prefetch(p.u, lane.row, at[t + kTile], lane.k, channel);
      prefetch(p.delta, lane.row, at[t + kTile], lane.k, channel);
    }
    Register<M> delta = load(p.delta.at(lane.row, at[t], lane.k) + channel, width) + lane.own.bias, slope;
    if (p.delta_softplus) delta = softplus(delta, slope);
    tile.delta[t] = delta;
    tile.input[t] = delta * load(p.u.at(lane.row, at[t], lane.k) + channel, width);
  }
}

// One step's inputs again, and what it needs on the way back.
template <typename T, typename M = Math<T>>
void read_step(const Lane<T>& lane, int64_t at, int64_t t, Tile<M>& tile) {
  const ScanProblem<T>& p = lane.p;
  const int64_t channel = lane.block.channel, width = lane.block.width;
  const Register<M> u = load(p.u.at(lane.row, at, lane.k) + channel, width);
  Register<M> delta = load(p.delta.at(lane.row, at, lane.k) + channel, width) + lane.own.bias;
  tile.slope[t] = Register<M>{} + 1;
  if (p.delta_softplus) delta = softplus(delta, tile.slope[t]);
  tile.u[t] = u;
  tile.delta[t] = delta;
  tile.input[t] = delta * u;
  tile.dinput[t] = tile.ddecay[t] = Register<M>{};
  tile.y[t] = p.skip ? lane.own.skip * u : Register<M>{};
  Register<M> dy = load(lane.g.dy.at(lane.row, at, lane.k) + channel, width);
  if (p.z.data) {
    const Register<M> z = load(p.z.at(lane.row, at, 0) + channel, width), gate = sigmoid_of<M>(z);
    tile.dgate[t] = dy * gate * (1 + z * (1 - gate));
    dy *= z * gate;
  }
  tile.dy[t] = dy;
}

template <typename T>
void prefetch_step(const Lane<T>& lane, int64_t at) {
  const int64_t channel = lane.block.channel;
  for (const auto& tensor : {lane.p.u, lane.p.delta, lane.p.z, lane.g.dy})
    prefetch(tensor, lane.row, at, lane.k, channel);
  for (const auto& tensor : {lane.g.du, lane.g.ddelta, lane.g.dz}) prefetch(tensor, lane.row, at, lane.k, channel);
}

// Takes kCount states through the tile.
template <int kCount, typename M>
void advance(const Tile<M>& tile, const bool* reset, int64_t count, const Register<M>* a, Register<M>* states) {
  Register<M> h[kCount];
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) h[j] = states[j];
  for (int64_t t = 0; t < count; ++t) {
    if (reset && reset[t])
#pragma GCC unroll 16
      for (int j = 0; j < kCount; ++j) h[j] = Register<M>{};
    const Register<M> delta = tile.delta[t], input = tile.input[t];
    const M* b = tile.b + t * kCount;
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) h[j] = exp2_of(delta * a[j]) * h[j] + b[j] * input;
  }
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) states[j] = h[j];
}

// The same, keeping all states and decays, the outputs, and the gradient of C.
template <int kCount, typename T, typename M = Math<T>>
void recompute(const Lane<T>& lane, Tile<M>& tile, const int32_t* at, const bool* reset, int64_t count, int64_t n,
               const Register<M>* states) {
  const Register<M>* a = lane.own.a + n;
  Register<M> h[kCount];
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) h[j] = states[j];
  for (int64_t t = 0; t < count; ++t) {
    if (reset && reset[t])
#pragma GCC unroll 16
      for (int j = 0; j < kCount; ++j) h[j] = Register<M>{};
    const Register<M> delta = tile.delta[t], input = tile.input[t], dy = tile.dy[t];
    const M *b = tile.b + t * kCount, *c = tile.c + t * kCount;
    Register<M>*before = tile.before + t * kCount, *decay = tile.decay + t * kCount;
    Register<M> y = tile.y[t], dc[kCount];
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) {
      before[j] = h[j];
      decay[j] = exp2_of(delta * a[j]);
      h[j] = decay[j] * h[j] + b[j] * input;
      y += c[j] * h[j];
      dc[j] = product(lane.mask, dy, h[j]);
    }
    tile.y[t] = y;
    add_lane_sums(dc, lane.g.dc.at(lane.row, at[t], lane.k, lane.block.group) + n);
  }
}

// Walks back through the tile with the gradient of kCount states.
template <int kCount, typename T, typename M = Math<T>>
void retreat(const Lane<T>& lane, Tile<M>& tile, const int32_t* at, const bool* reset, int64_t count, int64_t n,
             Register<M>* gradient, Register<M>* sum) {
  const Register<M>* a = lane.own.a + n;
  Register<M> dh[kCount], da[kCount];
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) dh[j] = gradient[j], da[j] = sum[j];
  for (int64_t t = count - 1; t >= 0; --t) {
    const Register<M> delta = tile.delta[t], input = tile.input[t], dy = tile.dy[t];
    const M *b = tile.b + t * kCount, *c = tile.c + t * kCount;
    const Register<M>*before = tile.before + t * kCount, *decay = tile.decay + t * kCount;
    Register<M> dinput = tile.dinput[t], ddecay = tile.ddecay[t], db[kCount];
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) {
      dh[j] += c[j] * dy;
      db[j] = product(lane.mask, dh[j], input);
      dinput += b[j] * dh[j];
      dh[j] *= decay[j];
      const Register<M> slope = dh[j] * before[j];
      da[j] += delta * slope;
      ddecay += a[j] * slope;
    }
    if (reset && reset[t])
#pragma GCC unroll 16
      for (int j = 0; j < kCount; ++j) dh[j] = Register<M>{};
    tile.dinput[t] = dinput;
    tile.ddecay[t] = ddecay;
    add_lane_sums(db, lane.g.db.at(lane.row, at[t], lane.k, lane.block.group) + n);
  }
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) gradient[j] = dh[j], sum[j] = da[j];
}

// Writes the gradients of one step. Those of a u that directions share add up in `shared` until the last.
template <typename T, typename M = Math<T>>
void write_step(const Lane<T>& lane, int64_t at, int64_t t, const Tile<M>& tile, Sums<M>& sums, Register<M>* shared) {
  const ScanProblem<T>& p = lane.p;
  const int64_t channel = lane.block.channel, width = lane.block.width;
  const Register<M> u = tile.u[t], dy = tile.dy[t];
  const Register<M> ddelta = (u * tile.dinput[t] + tile.ddecay[t] * static_cast<M>(1 / kLog2E)) * tile.slope[t];
  store(lane.g.ddelta.at(lane.row, at, lane.k) + channel, ddelta, width);
  sums.dbias += ddelta;
  sums.dskip += dy * u;
  Register<M> du = tile.delta[t] * tile.dinput[t];
  if (p.skip) du += lane.own.skip * dy;
  if (shared && lane.k > 0) du += shared[at];
  if (shared && lane.k + 1 < p.directions)
    shared[at] = du;
  else
    store(lane.g.du.at(lane.row, at, lane.k) + channel, du, width);
  if (lane.g.dz.data) store(lane.g.dz.at(lane.row, at, 0) + channel, tile.dgate[t] * tile.y[t], width);
}

template <typename M>
struct Workspace {
  Register<M>* starts;  // [tiles, N]: the states that the tiles find
  Register<M>* dh;      // [N]
  Register<M>* shared;  // [L] or null
};

// The states at the start of every tile.
template <typename T, typename M = Math<T>>
void keep_states(const Lane<T>& lane, const Steps& steps, Tile<M>& tile, Register<M>* starts) {
  const ScanProblem<T>& p = lane.p;
  read_initial_state(p, lane.block, lane.row, starts);
  for (int64_t first = 0; first + kTile < steps.count; first += kTile, starts += p.states) {
    const int32_t* at = steps.at + first;
    read_inputs(lane, steps, first, tile);
    for (int64_t n = 0; n < p.states; ++n) starts[p.states + n] = starts[n];
    for_state_groups<kBackwardStates>(p.states, [&](auto group, int64_t n) {
      constexpr int size = decltype(group)::value;
      gather<size>(p.b, lane.row, lane.k, lane.block.group, n, at, kTile, tile.b);
      advance<size>(tile, steps.reset ? steps.reset + first : nullptr, kTile, lane.own.a + n, starts + p.states + n);
    });
  }
}

template <typename T, typename M = Math<T>>
void scan_direction(const Lane<T>& lane, const Steps& steps, const Workspace<M>& work, Sums<M>& sums) {
  const ScanProblem<T>& p = lane.p;
  Tile<M> tile;
  keep_states(lane, steps, tile, work.starts);
  for (int64_t i = (steps.count + kTile - 1) / kTile - 1; i >= 0; --i) {
    const int64_t first = i * kTile, count = steps.count - first < kTile ? steps.count - first : kTile;
    const int32_t* at = steps.at + first;
    const bool* reset = steps.reset ? steps.reset + first : nullptr;
    for (int64_t t = 0; t < count; ++t) {
      if (first > 0) prefetch_step(lane, at[t - kTile]);
      read_step(lane, at[t], t, tile);
    }
    for_state_groups<kBackwardStates>(p.states, [&](auto group, int64_t n) {
      constexpr int size = decltype(group)::value;
      gather<size>(p.b, lane.row, lane.k, lane.block.group, n, at, count, tile.b);
      gather<size>(p.c, lane.row, lane.k, lane.block.group, n, at, count, tile.c);
      recompute<size>(lane, tile, at, reset, count, n, work.starts + i * p.states + n);
      retreat<size>(lane, tile, at, reset, count, n, work.dh + n, sums.da + n);
    });
    for (int64_t t = 0; t < count; ++t) write_step(lane, at[t], t, tile, sums, work.shared);
  }
}

template <typename T>
void write_padding(const ScanProblem<T>& p, const ScanGradients<T>& g, int64_t row, const Block& block) {
  for (int64_t t = 0; p.step && t < p.length; ++t) {
    if (p.step[row * p.length + t] != StepKind::kPadding) continue;
    for (const Strided<T>& gradient : {g.du, g.ddelta, g.dz})
      if (gradient.data) store(gradient.at(row, t, 0) + block.channel, Register<Math<T>>{}, block.width);
  }
}

template <typename T, typename M = Math<T>>
void write_sums(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, int64_t k,
                const Sums<M>& sums) {
  const int64_t first = k * p.channels + block.channel;
  store_by_state(g.da + first * p.states, sums.da, block.width, p.states);
  if (g.dskip) store(g.dskip + first, sums.dskip, block.width);
  if (g.ddelta_bias) store(g.ddelta_bias + first, sums.dbias, block.width);
}

template <typename T, typename M = Math<T>>
void read_final_gradient(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, int64_t row,
                         Register<M>* dh) {
  if (g.dfinal_state)
    load_by_state(dh, g.dfinal_state + (row * p.channels + block.channel) * p.states, block.width, p.states);
  else
    for (int64_t n = 0; n < p.states; ++n) dh[n] = Register<M>{};
}

}  // namespace

template <typename T>
void scan_backward(const ScanProblem<T>& p, const ScanGradients<T>& g, const Share& share) {
  using M = Math<T>;
  const StepFinder<T> find(p);
  const bool shares_u = !p.u_per_direction && p.directions > 1;
  const int64_t tiles = (p.length + kTile - 1) / kTile, own_size = p.directions * p.states;
  const Memory<Register<M>> a(own_size), da(own_size), dh(p.states), starts((tiles + 1) * p.states),
      shared(shares_u ? p.length : 0);
  const Memory<Parameters<M>> owns(p.directions);
  const Memory<Sums<M>> sums(p.directions);
  const Workspace<M> work{starts, dh, shares_u ? shared + 0 : nullptr};
  for (int64_t index = share.first_block; index < share.last_block; ++index) {
    const Block block = block_at(p.channels, p.groups, index, kWidth<M>);
    for (int64_t k = 0; k < p.directions; ++k) {
      owns[k].a = a + k * p.states;
      read_parameters(p, block, k, owns[k]);
      sums[k] = Sums<M>{{}, {}, da + k * p.states};
      for (int64_t n = 0; n < p.states; ++n) sums[k].da[n] = Register<M>{};
    }
    for (int64_t row = share.first_row; row < share.last_row; ++row) {
      for (int64_t k = 0; k < p.directions; ++k) {
        read_final_gradient(p, g, block, row, dh + 0);
        scan_direction(Lane<T>{p, g, block, row, k, owns[k], first_lanes<M>(block.width)}, find(row, k), work, sums[k]);
      }
      write_padding(p, g, row, block);
      if (g.dinitial_state)
        store_by_state(g.dinitial_state + (row * p.channels + block.channel) * p.states, dh + 0, block.width, p.states);
    }
    for (int64_t k = 0; k < p.directions; ++k) write_sums(p, g, block, k, sums[k]);
  }
}

// scan_forward.cpp
template <typename T>
void scan_forward(const ScanProblem<T>&, const ScanOutput<T>&, const Share&);

template <typename T>
ScanKernels<T> scan_kernels() {
  return {kWidth<Math<T>>, scan_forward<T>, scan_backward<T>};
}
template ScanKernels<float> scan_kernels();
template ScanKernels<double> scan_kernels();
template ScanKernels<BFloat16> scan_kernels();
template ScanKernels<Half> scan_kernels();

}  // namespace vlmamba::cpu::VLMAMBA_PATH
