// The backward scans. A block goes forward once and keeps its states at the start of every tile of steps; then, from
// the last tile to the first, it computes the tile's states and decays again into cache and walks backward through
// them, a group of states in registers at a time. See registers.h for how this file is compiled.

#include "kernels/cpu/scan_block.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// Of one tile no state needs to be kept, of two only the first is gone through twice; more of them should fit the
// nearest cache. Lengths do not change results.
constexpr int64_t kTile = 64;
constexpr int64_t tile_length(int64_t steps) {
  return steps <= kTile ? kTile : steps <= 2 * kTile ? (steps + 1) / 2 : kTile / 2;
}

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
  const Turn turn;
};

// What a block sums up over steps and rows: dA, the gradients of D and delta_bias.
template <typename M>
struct Sums {
  Register<M> dskip, dbias;
  Register<M>* da;  // [N]
};

// A whole tile's inputs. Asks for the memory of the next tile at the same time: lines of far positions come one by one,
// and late.
template <typename T, typename M = Math<T>>
void read_inputs(const Lane<T>& lane, const Steps& steps, int64_t first, int64_t count, Tile<M>& tile) {
  const ScanProblem<T>& p = lane.p;
  const auto u = column(p.u, lane.row, lane.k, lane.block), delta = column(p.delta, lane.row, lane.k, lane.block);
  const int64_t width = lane.block.width, last = steps.count - 1;
  const int32_t* at = steps.at + first;
  for (int64_t t = 0; t < count; ++t) {
    const int64_t next = steps.at[first + t + count < last ? first + t + count : last];
    prefetch(u, next, 0, lane.turn);
    prefetch(delta, next, 1, lane.turn);
    Register<M> step = load(delta[at[t]], width) + lane.own.bias, slope;
    if (p.delta_softplus) step = softplus(step, slope);
    tile.delta[t] = step;
    tile.input[t] = step * load(u[at[t]], width);
  }
}

// The inputs again, and what the way back needs; asks for the memory of the tile before.
template <typename T, typename M = Math<T>>
void read_all(const Lane<T>& lane, const Steps& steps, int64_t first, int64_t count, int64_t length, Tile<M>& tile) {
  const ScanProblem<T>& p = lane.p;
  const auto u = column(p.u, lane.row, lane.k, lane.block), delta = column(p.delta, lane.row, lane.k, lane.block),
             z = column(p.z, lane.row, lane.k, lane.block), dy = column(lane.g.dy, lane.row, lane.k, lane.block);
  const auto du = column(lane.g.du, lane.row, lane.k, lane.block),
             ddelta = column(lane.g.ddelta, lane.row, lane.k, lane.block),
             dz = column(lane.g.dz, lane.row, lane.k, lane.block);
  const int64_t width = lane.block.width;
  const int32_t* at = steps.at + first;
  for (int64_t t = 0; t < count; ++t) {
    const int64_t before = steps.at[first + t < length ? 0 : first + t - length];
    prefetch(u, before, 0, lane.turn);
    prefetch(delta, before, 1, lane.turn);
    prefetch(z, before, 2, lane.turn);
    prefetch(dy, before, 3, lane.turn);
    prefetch(du, before, 4, lane.turn);
    prefetch(ddelta, before, 5, lane.turn);
    prefetch(dz, before, 6, lane.turn);
    const Register<M> input = load(u[at[t]], width);
    Register<M> step = load(delta[at[t]], width) + lane.own.bias, gradient = load(dy[at[t]], width);
    tile.slope[t] = Register<M>{} + 1;
    if (p.delta_softplus) step = softplus(step, tile.slope[t]);
    tile.u[t] = input;
    tile.delta[t] = step;
    tile.input[t] = step * input;
    tile.dinput[t] = tile.ddecay[t] = Register<M>{};
    tile.y[t] = p.skip ? lane.own.skip * input : Register<M>{};
    if (z.data) {
      const Register<M> x = load(z[at[t]], width), gate = sigmoid_of<M>(x);
      tile.dgate[t] = gradient * gate * (1 + x * (1 - gate));
      gradient *= x * gate;
    }
    tile.dy[t] = gradient;
  }
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
    const Register<M> delta = step_of_decay(tile.delta[t], reset, t), input = tile.input[t];
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
    const Register<M> delta = step_of_decay(tile.delta[t], reset, t), input = tile.input[t], dy = tile.dy[t];
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

// Writes the gradients of a tile. Those of a u that directions share add up in `shared` until the last.
template <typename T, typename M = Math<T>>
void write_gradients(const Lane<T>& lane, const int32_t* at, int64_t count, const Tile<M>& tile, Sums<M>& sums,
                     Register<M>* shared) {
  const ScanProblem<T>& p = lane.p;
  const auto to_du = column(lane.g.du, lane.row, lane.k, lane.block),
             to_ddelta = column(lane.g.ddelta, lane.row, lane.k, lane.block),
             to_dz = column(lane.g.dz, lane.row, lane.k, lane.block);
  const int64_t width = lane.block.width;
  const bool adds = shared && lane.k > 0, keeps = shared && lane.k + 1 < p.directions;
  for (int64_t t = 0; t < count; ++t) {
    const Register<M> u = tile.u[t], dy = tile.dy[t];
    const Register<M> ddelta = (u * tile.dinput[t] + tile.ddecay[t] * static_cast<M>(1 / kLog2E)) * tile.slope[t];
    store(to_ddelta[at[t]], ddelta, width);
    sums.dbias += ddelta;
    sums.dskip += dy * u;
    Register<M> du = tile.delta[t] * tile.dinput[t];
    if (p.skip) du += lane.own.skip * dy;
    if (adds) du += shared[at[t]];
    if (keeps)
      shared[at[t]] = du;
    else
      store(to_du[at[t]], du, width);
    if (to_dz.data) store(to_dz[at[t]], tile.dgate[t] * tile.y[t], width);
  }
}

// The states at the start of the tile after this one of `count` steps, of those at its start.
template <typename T, typename M = Math<T>>
void keep_states(const Lane<T>& lane, const Steps& steps, int64_t first, int64_t count, Tile<M>& tile,
                 Register<M>* starts) {
  const ScanProblem<T>& p = lane.p;
  read_inputs(lane, steps, first, count, tile);
  for (int64_t n = 0; n < p.states; ++n) starts[p.states + n] = starts[n];
  for_state_groups<kBackwardStates>(p.states, [&](auto group, int64_t n) {
    constexpr int size = decltype(group)::value;
    gather<size>(p.b, lane.row, lane.k, lane.block.group, n, steps.at + first, count, tile.b);
    advance<size>(tile, steps.reset ? steps.reset + first : nullptr, count, lane.own.a + n, starts + p.states + n);
  });
}

// What one block of the strip keeps while it walks back.
template <typename M>
struct Walk {
  Register<M>* starts;  // [tiles, N]: the states that the tiles find
  Register<M>* dh;      // [N]
  Register<M>* shared;  // [L] or null
};

template <typename T, typename M = Math<T>>
void scan_tile(const Lane<T>& lane, const Steps& steps, int64_t index, int64_t length, Tile<M>& tile,
               const Walk<M>& walk, Sums<M>& sums) {
  const ScanProblem<T>& p = lane.p;
  const int64_t first = index * length, count = steps.count - first < length ? steps.count - first : length;
  const int32_t* at = steps.at + first;
  const bool* reset = steps.reset ? steps.reset + first : nullptr;
  read_all(lane, steps, first, count, length, tile);
  for_state_groups<kBackwardStates>(p.states, [&](auto group, int64_t n) {
    constexpr int size = decltype(group)::value;
    gather<size>(p.b, lane.row, lane.k, lane.block.group, n, at, count, tile.b);
    gather<size>(p.c, lane.row, lane.k, lane.block.group, n, at, count, tile.c);
    recompute<size>(lane, tile, at, reset, count, n, walk.starts + index * p.states + n);
    retreat<size>(lane, tile, at, reset, count, n, walk.dh + n, sums.da + n);
  });
  write_gradients(lane, at, count, tile, sums, walk.shared);
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
  if (g.da) store_by_state(g.da + first * p.states, sums.da, block.width, p.states);
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

// A strip of up to so many blocks, with all that it keeps over the directions of a row.
template <typename T>
class Strip {
 public:
  using M = Math<T>;

  Strip(const ScanProblem<T>& problem, const ScanGradients<T>& gradients, int64_t blocks)
      : p_(problem),
        g_(gradients),
        starts_size_((p_.length / (kTile / 2) + 2) * p_.states),
        own_size_(p_.directions * p_.states),
        a_(blocks * own_size_),
        da_(blocks * own_size_),
        dh_(blocks * p_.states),
        starts_(blocks * starts_size_),
        shared_(shares_u() ? blocks * p_.length : 0),
        owns_(blocks * p_.directions),
        sums_(blocks * p_.directions),
        find_(p_) {}

  void start(int64_t first_block, int64_t count) {
    count_ = count;
    for (int64_t j = 0; j < count_; ++j) {
      blocks_[j] = block_at(p_.channels, p_.groups, first_block + j, kWidth<M>);
      for (int64_t k = 0; k < p_.directions; ++k) {
        const int64_t i = j * p_.directions + k;
        owns_[i].a = a_ + i * p_.states;
        read_parameters(p_, blocks_[j], k, owns_[i]);
        sums_[i] = Sums<M>{{}, {}, da_ + i * p_.states};
        for (int64_t n = 0; n < p_.states; ++n) sums_[i].da[n] = Register<M>{};
      }
    }
  }

  void scan_row(int64_t row) {
    for (int64_t k = 0; k < p_.directions; ++k) scan_direction(row, k);
    for (int64_t j = 0; j < count_; ++j) {
      write_padding(p_, g_, row, blocks_[j]);
      if (g_.dinitial_state)
        store_by_state(g_.dinitial_state + (row * p_.channels + blocks_[j].channel) * p_.states, dh_ + j * p_.states,
                       blocks_[j].width, p_.states);
    }
  }

  void finish() {
    for (int64_t j = 0; j < count_; ++j)
      for (int64_t k = 0; k < p_.directions; ++k) write_sums(p_, g_, blocks_[j], k, sums_[j * p_.directions + k]);
  }

 private:
  bool shares_u() const { return !p_.u_per_direction && p_.directions > 1; }
  Lane<T> lane(int64_t row, int64_t k, int64_t j) const {
    return {p_, g_, blocks_[j], row, k, owns_[j * p_.directions + k], first_lanes<M>(blocks_[j].width), {j, count_}};
  }
  Walk<M> walk(int64_t j) const {
    return {starts_ + j * starts_size_, dh_ + j * p_.states, shares_u() ? shared_ + j * p_.length : nullptr};
  }

  void scan_direction(int64_t row, int64_t k) {
    const Steps steps = find_(row, k);
    for (int64_t j = 0; j < count_; ++j) {
      read_final_gradient(p_, g_, blocks_[j], row, walk(j).dh);
      read_initial_state(p_, blocks_[j], row, walk(j).starts);
    }
    const int64_t length = tile_length(steps.count), tiles = (steps.count + length - 1) / length;
    for (int64_t i = 0; i + 1 < tiles; ++i)
      for (int64_t j = 0; j < count_; ++j)
        keep_states(lane(row, k, j), steps, i * length, length, tile_, walk(j).starts + i * p_.states);
    for (int64_t i = tiles - 1; i >= 0; --i)
      for (int64_t j = 0; j < count_; ++j)
        scan_tile(lane(row, k, j), steps, i, length, tile_, walk(j), sums_[j * p_.directions + k]);
  }

  const ScanProblem<T>& p_;
  const ScanGradients<T>& g_;
  const int64_t starts_size_, own_size_;
  const Memory<Register<M>> a_, da_, dh_, starts_, shared_;
  const Memory<Parameters<M>> owns_;
  const Memory<Sums<M>> sums_;
  const StepFinder<T> find_;
  int64_t count_ = 0;
  Block blocks_[kStrip];
  Tile<M> tile_;
};

}  // namespace

template <typename T>
void scan_backward(const ScanProblem<T>& p, const ScanGradients<T>& g, const Share& share) {
  Strip<T> strip(p, g, strip_blocks(share, share.first_block));
  for (int64_t index = share.first_block; index < share.last_block; index += kStrip) {
    strip.start(index, strip_blocks(share, index));
    for (int64_t row = share.first_row; row < share.last_row; ++row) strip.scan_row(row);
    strip.finish();
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
