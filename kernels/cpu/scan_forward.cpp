// The forward scans, a tile of steps at a time: what all states share (softplus, inputs), then the states in groups
// that stay in registers over the tile, then the outputs. See registers.h for how this file is compiled.

#include "kernels/cpu/scan_block.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int64_t kTile = 32;

template <typename M>
struct Tile {
  Register<M> delta[kTile], input[kTile], y[kTile];  // input: delta u
  M b[kTile * kForwardStates], c[kTile * kForwardStates];
};

// One block of a row, in one direction.
template <typename T>
struct Lane {
  using M = Math<T>;
  const ScanProblem<T>& p;
  const ScanOutput<T>& out;
  const Block block;
  const int64_t row, k;
  const Parameters<M>& own;
  const Turn turn;
};

// Asks for the memory of the next tile at the same time: lines of far positions come one by one, and late.
template <typename T, typename M = Math<T>>
void read_inputs(const Lane<T>& lane, const Steps& steps, int64_t first, int64_t count, Tile<M>& tile) {
  const ScanProblem<T>& p = lane.p;
  const auto u = column(p.u, lane.row, lane.k, lane.block), delta = column(p.delta, lane.row, lane.k, lane.block),
             z = column(p.z, lane.row, lane.k, lane.block);
  const auto y = column(lane.out.y, lane.row, lane.k, lane.block);
  const int64_t width = lane.block.width, last = steps.count - 1;
  const int32_t* at = steps.at + first;
  for (int64_t t = 0; t < count; ++t) {
    const int64_t next = steps.at[first + t + kTile < last ? first + t + kTile : last];
    prefetch(u, next, 0, lane.turn);
    prefetch(delta, next, 1, lane.turn);
    prefetch(z, next, 2, lane.turn);
    prefetch(y, next, 3, lane.turn);
    const Register<M> input = load(u[at[t]], width);
    Register<M> step = load(delta[at[t]], width) + lane.own.bias, slope;
    if (p.delta_softplus) step = softplus(step, slope);
    tile.delta[t] = step;
    tile.input[t] = step * input;
    tile.y[t] = p.skip ? lane.own.skip * input : Register<M>{};
  }
}

// Takes kCount states through the tile and adds what they put out to its y.
template <int kCount, typename M>
void advance(Tile<M>& tile, const bool* reset, int64_t count, const Register<M>* a, Register<M>* states) {
  Register<M> h[kCount];
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) h[j] = states[j];
  for (int64_t t = 0; t < count; ++t) {
    if (reset && reset[t])
#pragma GCC unroll 16
      for (int j = 0; j < kCount; ++j) h[j] = Register<M>{};
    const Register<M> delta = step_of_decay(tile.delta[t], reset, t), input = tile.input[t];
    const M *b = tile.b + t * kCount, *c = tile.c + t * kCount;
    Register<M> y = tile.y[t];
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) {
      h[j] = exp2_of(delta * a[j]) * h[j] + b[j] * input;
      y += c[j] * h[j];
    }
    tile.y[t] = y;
  }
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j) states[j] = h[j];
}

// Gates and writes the tile's outputs. Directions that are merged add up in `sums` until the last.
template <typename T, typename M = Math<T>>
void write_outputs(const Lane<T>& lane, const int32_t* at, int64_t count, const Tile<M>& tile, Register<M>* sums) {
  const auto z = column(lane.p.z, lane.row, lane.k, lane.block);
  const auto to = column(lane.out.y, lane.row, lane.k, lane.block);
  const int64_t width = lane.block.width;
  const bool adds = sums && lane.k > 0, keeps = sums && lane.k + 1 < lane.p.directions;
  for (int64_t t = 0; t < count; ++t) {
    Register<M> y = tile.y[t];
    if (z.data) {
      const Register<M> gate = load(z[at[t]], width);
      y *= gate * sigmoid_of<M>(gate);
    }
    if (adds) y += sums[at[t]];
    if (keeps)
      sums[at[t]] = y;
    else
      store(to[at[t]], y, width);
  }
}

template <typename T, typename M = Math<T>>
void scan_tile(const Lane<T>& lane, const Steps& steps, int64_t first, Tile<M>& tile, Register<M>* h,
               Register<M>* sums) {
  const ScanProblem<T>& p = lane.p;
  const int64_t count = steps.count - first < kTile ? steps.count - first : kTile;
  const int32_t* at = steps.at + first;
  const bool* reset = steps.reset ? steps.reset + first : nullptr;
  read_inputs(lane, steps, first, count, tile);
  for_state_groups<kForwardStates>(p.states, [&](auto group, int64_t n) {
    constexpr int size = decltype(group)::value;
    gather<size>(p.b, lane.row, lane.k, lane.block.group, n, at, count, tile.b);
    gather<size>(p.c, lane.row, lane.k, lane.block.group, n, at, count, tile.c);
    advance<size>(tile, reset, count, lane.own.a + n, h + n);
  });
  write_outputs(lane, at, count, tile, sums);
}

template <typename T>
void write_padding(const ScanProblem<T>& p, const ScanOutput<T>& out, int64_t row, const Block& block) {
  for (int64_t t = 0; p.step && t < p.length; ++t)
    if (p.step[row * p.length + t] == StepKind::kPadding)
      store(out.y.at(row, t, 0) + block.channel, Register<Math<T>>{}, block.width);
}

}  // namespace

template <typename T>
void scan_forward(const ScanProblem<T>& p, const ScanOutput<T>& out, const Share& share) {
  using M = Math<T>;
  const StepFinder<T> find(p);
  const bool sums_up = p.merge && p.directions > 1;
  const int64_t own_size = p.directions * p.states, most = strip_blocks(share, share.first_block);
  const Memory<Register<M>> a(most * own_size), h(most * p.states), sums(sums_up ? most * p.length : 0);
  const Memory<Parameters<M>> owns(most * p.directions);
  Block blocks[kStrip];
  Tile<M> tile;
  for (int64_t index = share.first_block; index < share.last_block; index += kStrip) {
    const int64_t strip = strip_blocks(share, index);
    for (int64_t j = 0; j < strip; ++j) {
      blocks[j] = block_at(p.channels, p.groups, index + j, kWidth<M>);
      for (int64_t k = 0; k < p.directions; ++k) {
        Parameters<M>& own = owns[j * p.directions + k];
        own.a = a + j * own_size + k * p.states;
        read_parameters(p, blocks[j], k, own);
      }
    }
    for (int64_t row = share.first_row; row < share.last_row; ++row) {
      for (int64_t k = 0; k < p.directions; ++k) {
        const Steps steps = find(row, k);
        for (int64_t j = 0; j < strip; ++j) read_initial_state(p, blocks[j], row, h + j * p.states);
        for (int64_t first = 0; first < steps.count; first += kTile)
          for (int64_t j = 0; j < strip; ++j)
            scan_tile(Lane<T>{p, out, blocks[j], row, k, owns[j * p.directions + k], {j, strip}}, steps, first, tile,
                      h + j * p.states, sums_up ? sums + j * p.length : nullptr);
      }
      for (int64_t j = 0; j < strip; ++j) {
        write_padding(p, out, row, blocks[j]);
        if (out.final_state)
          store_by_state(out.final_state + (row * p.channels + blocks[j].channel) * p.states, h + j * p.states,
                         blocks[j].width, p.states);
      }
    }
  }
}
template void scan_forward(const ScanProblem<float>&, const ScanOutput<float>&, const Share&);
template void scan_forward(const ScanProblem<double>&, const ScanOutput<double>&, const Share&);
template void scan_forward(const ScanProblem<BFloat16>&, const ScanOutput<BFloat16>&, const Share&);
template void scan_forward(const ScanProblem<Half>&, const ScanOutput<Half>&, const Share&);

}  // namespace vlmamba::cpu::VLMAMBA_PATH
