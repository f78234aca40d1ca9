// The lane kernels of one decoding step; see lanes.h for how they are compiled.

#include "kernels/cpu/update_lanes.h"

#include "kernels/cpu/storage_lanes.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// One channel's states move on, lane = state: h = exp(dt a) h + (dt u) b. Gives <h, c>.
template <typename S>
Math<S> move_on(const StateUpdate<S>& p, int64_t row, int64_t channel, int64_t group, Math<S> dt, Math<S> dt_u) {
  using T = Math<S>;
  T* state = p.state + (row * p.channels + channel) * p.states;
  const T* a = p.a + channel * p.states;
  const int64_t shared = (row * p.groups + group) * p.states;
  Lanes<T> sum{};
  for (int64_t n = 0; n < p.states; n += kLanes) {
    const int64_t width = least(p.states - n, kLanes);
    const Lanes<T> decay = exp2_of(load(a + n, width) * (dt * static_cast<T>(kLog2E)));
    const Lanes<T> h = decay * load(state + n, width) + dt_u * load(p.b + shared + n, width);
    store(state + n, h, width);
    sum += h * load(p.c + shared + n, width);
  }
  return sum_of(sum);
}

// The step of one vector of channels, all of the same group.
template <typename S>
void update_states(const StateUpdate<S>& p, int64_t row, const Block& block) {
  using T = Math<S>;
  const int64_t at = row * p.channels + block.channel;
  Lanes<T> dt = load(p.delta + at, block.width);
  if (p.delta_bias) dt += load(p.delta_bias + block.channel, block.width);
  if (p.delta_softplus) dt = softplus(dt);
  const Lanes<T> u = load(p.u + at, block.width), dt_u = dt * u;
  Lanes<T> y{};
  for (int64_t i = 0; i < block.width; ++i) y[i] = move_on(p, row, block.channel + i, block.group, dt[i], dt_u[i]);
  if (p.skip) y += load(p.skip + block.channel, block.width) * u;
  if (p.z) {
    const Lanes<T> z = load(p.z + at, block.width);
    y *= z * sigmoid(z);
  }
  store(p.y + at, y, block.width);
}

template <typename S>
void update_windows(const ConvUpdate<S>& p, int64_t row, const Block& block) {
  using T = Math<S>;
  const int64_t last = p.taps - 1;
  const auto weight = [&](int64_t w) {
    Lanes<T> lanes{};
    for (int64_t i = 0; i < block.width; ++i) lanes[i] = p.weight[(block.channel + i) * p.taps + w];
    return lanes;
  };
  const Lanes<T> x = load(p.x + row * p.channels + block.channel, block.width);
  S* state = p.state + row * last * p.channels + block.channel;
  Lanes<T> y = p.bias ? load(p.bias + block.channel, block.width) : Lanes<T>{};
  for (int64_t w = 0; w < last; ++w) {
    y += weight(w) * load(state + w * p.channels, block.width);
    store(state + w * p.channels, w + 1 < last ? load(state + (w + 1) * p.channels, block.width) : x, block.width);
  }
  y += weight(last) * x;
  if (p.silu) y *= sigmoid(y);
  store(p.y + row * p.channels + block.channel, y, block.width);
}

// Calls work(row, vector of channels) for all vectors of the blocks.
template <typename Work>
void for_each_vector(int64_t channels, int64_t groups, int64_t first_block, int64_t last_block, const Work& work) {
  const int64_t blocks = blocks_per_group(channels, groups) * groups;
  for (int64_t index = first_block; index < last_block; ++index) {
    const Block block = block_at(channels, groups, index % blocks);
    for (int64_t i = 0; i < block.width; i += kLanes)
      work(index / blocks, Block{block.channel + i, least(block.width - i, kLanes), block.group});
  }
}

}  // namespace

template <typename S>
void update_state(const StateUpdate<S>& p, int64_t first_block, int64_t last_block) {
  for_each_vector(p.channels, p.groups, first_block, last_block,
                  [&](int64_t row, const Block& block) { update_states(p, row, block); });
}

template <typename S>
void update_conv(const ConvUpdate<S>& p, int64_t first_block, int64_t last_block) {
  for_each_vector(p.channels, 1, first_block, last_block,
                  [&](int64_t row, const Block& block) { update_windows(p, row, block); });
}

#define VLMAMBA_UPDATES(S)                                             \
  template void update_state(const StateUpdate<S>&, int64_t, int64_t); \
  template void update_conv(const ConvUpdate<S>&, int64_t, int64_t);
VLMAMBA_UPDATES(float)
VLMAMBA_UPDATES(double)
VLMAMBA_UPDATES(BFloat16)
VLMAMBA_UPDATES(Half)
#undef VLMAMBA_UPDATES

}  // namespace vlmamba::cpu::VLMAMBA_PATH
