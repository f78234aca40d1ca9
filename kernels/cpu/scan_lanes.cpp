// The lane kernels of the scans; see lanes.h for how they are compiled.

#include "kernels/cpu/scan_lanes.h"

#include "kernels/cpu/lanes.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

template <typename T>
Block block_at(const ScanProblem<T>& p, int64_t index) {
  return cpu::block_at(p.channels, p.groups, index);
}

template <typename T>
void load_by_state(Lanes<T>* lanes, const T* from, int64_t width, int64_t states) {  // [width, N] -> [N] lanes
  for (int64_t n = 0; n < states; ++n) {
    lanes[n] = Lanes<T>{};
    for (int64_t i = 0; i < width; ++i) lanes[n][i] = from[i * states + n];
  }
}

template <typename T>
void store_by_state(T* to, const Lanes<T>* lanes, int64_t width, int64_t states) {
  for (int64_t n = 0; n < states; ++n)
    for (int64_t i = 0; i < width; ++i) to[i * states + n] = lanes[n][i];
}

// Offsets of position `at` of direction k.
template <typename T>
int64_t u_offset(const ScanProblem<T>& p, int64_t row, int64_t at, int64_t k) {
  const int64_t directions = p.u_per_direction ? p.directions : 1;
  return ((row * p.length + at) * directions + (p.u_per_direction ? k : 0)) * p.channels;
}
template <typename T>
int64_t delta_offset(const ScanProblem<T>& p, int64_t row, int64_t at, int64_t k) {
  return ((row * p.length + at) * p.directions + k) * p.channels;
}
template <typename T>
int64_t y_offset(const ScanProblem<T>& p, int64_t row, int64_t at, int64_t k) {
  return p.merge ? (row * p.length + at) * p.channels : delta_offset(p, row, at, k);
}
template <typename T>
int64_t b_offset(const ScanProblem<T>& p, int64_t row, int64_t at, int64_t k, int64_t group) {
  return (((row * p.length + at) * p.directions + k) * p.groups + group) * p.states;
}

template <typename T>
StepKind kind_of(const ScanProblem<T>& p, int64_t row, int64_t at) {
  return p.step == nullptr ? StepKind::kGoOn : p.step[row * p.length + at];
}

// What a block knows before its first step.
template <typename T>
struct Parameters {
  Lanes<T> skip, bias;
  Lanes<T>* a;  // [N]: A log2(e), so that decays are powers of two
};

template <typename T>
void read_parameters(const ScanProblem<T>& p, const Block& block, int64_t k, Parameters<T>& own) {
  const int64_t first = k * p.channels + block.channel;
  load_by_state(own.a, p.a + first * p.states, block.width, p.states);
  for (int64_t n = 0; n < p.states; ++n) own.a[n] *= static_cast<T>(kLog2E);
  own.skip = p.skip ? load(p.skip + first, block.width) : Lanes<T>{};
  own.bias = p.delta_bias ? load(p.delta_bias + first, block.width) : Lanes<T>{};
}

// The values of one step that all states share.
template <typename T>
struct Step {
  Lanes<T> u, raw_delta, delta;
  const T *b, *c;
};

template <typename T>
void read_step(const ScanProblem<T>& p, const Block& block, Lanes<T> bias, int64_t row, int64_t at, int64_t k,
               Step<T>& s) {
  s.u = load(p.u + u_offset(p, row, at, k) + block.channel, block.width);
  s.raw_delta = load(p.delta + delta_offset(p, row, at, k) + block.channel, block.width) + bias;
  s.delta = p.delta_softplus ? softplus(s.raw_delta) : s.raw_delta;
  s.b = p.b + b_offset(p, row, at, k, block.group);
  s.c = p.c + b_offset(p, row, at, k, block.group);
}

template <typename T>
Lanes<T> read_out(const Step<T>& s, const Lanes<T>* h, Lanes<T> skip, int64_t states) {
  Lanes<T> y = skip * s.u;
  for (int64_t n = 0; n < states; ++n) y += s.c[n] * h[n];
  return y;
}

template <typename T>
void forward_block(const ScanProblem<T>& p, const ScanOutput<T>& out, int64_t row, int64_t k, const Block& block) {
  const Buffer<Lanes<T>> work(2 * p.states);
  Lanes<T>* h = work + 0;
  Parameters<T> own{{}, {}, work + p.states};
  read_parameters(p, block, k, own);
  const int64_t state = (row * p.channels + block.channel) * p.states;
  if (p.initial_state) load_by_state(h, p.initial_state + state, block.width, p.states);
  Step<T> s;
  for (int64_t t = 0; t < p.length; ++t) {
    const int64_t at = p.order[k * p.length + t];
    T* to = out.y + y_offset(p, row, at, k) + block.channel;
    const StepKind kind = kind_of(p, row, at);
    if (kind == StepKind::kPadding) {
      store(to, Lanes<T>{}, block.width);
      continue;
    }
    if (kind == StepKind::kReset) memset(static_cast<void*>(h), 0, static_cast<size_t>(p.states) * sizeof *h);
    read_step(p, block, own.bias, row, at, k, s);
    const Lanes<T> input = s.delta * s.u;
    Lanes<T> y = own.skip * s.u;
    for (int64_t n = 0; n < p.states; ++n) {
      h[n] = exp2_of(s.delta * own.a[n]) * h[n] + s.b[n] * input;
      y += s.c[n] * h[n];
    }
    if (p.z) {
      const Lanes<T> z = load(p.z + (row * p.length + at) * p.channels + block.channel, block.width);
      y *= z * sigmoid(z);
    }
    if (p.merge && k > 0) y += load(to, block.width);
    store(to, y, block.width);
  }
  if (out.final_state) store_by_state(out.final_state + state, h, block.width, p.states);
}

template <typename T>
void forward(const ScanProblem<T>& p, const ScanOutput<T>& out, int64_t row, int64_t first_block, int64_t last_block) {
  for (int64_t index = first_block; index < last_block; ++index)
    for (int64_t k = 0; k < p.directions; ++k) forward_block(p, out, row, k, block_at(p, index));
}

// What the backward of one row and direction keeps for each of its blocks.
template <typename T>
struct BlockState {
  Parameters<T> parameters;
  Lanes<T>*da, *dh;  // [N]; dh is the gradient that comes from later steps
  Lanes<T>*dskip, *dbias;
  static int64_t size(int64_t states) { return 3 * states + 2; }  // lanes of memory
  void use(Lanes<T>* memory, int64_t states) {
    parameters.a = memory, da = memory + states, dh = da + states, dskip = dh + states, dbias = dskip + 1;
  }
};

// The states and decays of one tile, recomputed.
template <typename T>
struct Tile {
  Lanes<T>*h, *decay;  // [kTile + 1, N] (entry 0: before the tile), [kTile, N]
  Lanes<T>*db, *dc;    // [kTile, N]: summed over the blocks of a group, lane by lane
  Step<T>* steps;      // [kTile]
};

template <typename T>
void recompute(const ScanProblem<T>& p, const Block& block, const Parameters<T>& own, int64_t row, int64_t k,
               int64_t first, int64_t last, const Tile<T>& tile) {
  const int64_t states = p.states;
  for (int64_t t = first; t < last; ++t) {
    const int64_t at = p.order[k * p.length + t];
    Lanes<T>* h = tile.h + (t - first + 1) * states;
    const Lanes<T>* before = h - states;
    const StepKind kind = kind_of(p, row, at);
    if (kind == StepKind::kPadding) {
      memcpy(static_cast<void*>(h), before, static_cast<size_t>(states) * sizeof *h);
      continue;
    }
    Step<T>& s = tile.steps[t - first];
    read_step(p, block, own.bias, row, at, k, s);
    const Lanes<T> input = s.delta * s.u;
    Lanes<T>* decay = tile.decay + (t - first) * states;
    for (int64_t n = 0; n < states; ++n) decay[n] = exp2_of(s.delta * own.a[n]);
    if (kind == StepKind::kReset)
      for (int64_t n = 0; n < states; ++n) h[n] = s.b[n] * input;
    else
      for (int64_t n = 0; n < states; ++n) h[n] = decay[n] * before[n] + s.b[n] * input;
  }
}

// The gate's part of the gradient: writes dz and gives the gradient of the ungated output.
template <typename T>
Lanes<T> backward_gate(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, const Step<T>& s,
                       const Lanes<T>* h, Lanes<T> skip, int64_t row, int64_t at, Lanes<T> dy) {
  const Lanes<T> y = read_out(s, h, skip, p.states);
  const int64_t offset = (row * p.length + at) * p.channels + block.channel;
  const Lanes<T> z = load(p.z + offset, block.width), gate = sigmoid(z);
  if (g.dz) store(g.dz + offset, dy * y * gate * (1 + z * (1 - gate)), block.width);
  return dy * z * gate;
}

// The states' part of one step, last to first; adds to dA, dB and dC. kReset: the run starts without a state.
template <typename T, bool kReset>
void backward_states(const Step<T>& s, const BlockState<T>& own, const Lanes<T>* h, const Lanes<T>* decay, Lanes<T> dy,
                     Lanes<T>* db, Lanes<T>* dc, Lanes<T>& du, Lanes<T>& ddelta, int64_t states) {
  const Lanes<T> input = s.delta * s.u;
  const Lanes<T>* before = h - states;
  Lanes<T> dinput{}, ddecay{};
  for (int64_t n = 0; n < states; ++n) {
    const Lanes<T> dh = own.dh[n] + s.c[n] * dy;
    dc[n] += dy * h[n];
    db[n] += dh * input;
    dinput += s.b[n] * dh;
    if (kReset) {
      own.dh[n] = Lanes<T>{};
    } else {
      const Lanes<T> passed = decay[n] * dh, slope = passed * before[n];
      own.da[n] += s.delta * slope;
      ddecay += own.parameters.a[n] * slope;
      own.dh[n] = passed;
    }
  }
  du += s.delta * dinput;
  ddelta = s.u * dinput + ddecay * static_cast<T>(1 / kLog2E);
}

template <typename T>
void backward_step(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, const BlockState<T>& own,
                   const Tile<T>& tile, int64_t row, int64_t k, int64_t t, int64_t in_tile) {
  const int64_t at = p.order[k * p.length + t], states = p.states;
  T* to_du = g.du + u_offset(p, row, at, k) + block.channel;
  T* to_ddelta = g.ddelta + delta_offset(p, row, at, k) + block.channel;
  const bool add_du = k > 0 && !p.u_per_direction;
  const StepKind kind = kind_of(p, row, at);
  if (kind == StepKind::kPadding) {
    store(to_ddelta, Lanes<T>{}, block.width);
    if (!add_du) store(to_du, Lanes<T>{}, block.width);
    if (g.dz) store(g.dz + (row * p.length + at) * p.channels + block.channel, Lanes<T>{}, block.width);
    return;
  }
  const Step<T>& s = tile.steps[in_tile];
  const Lanes<T>* h = tile.h + (in_tile + 1) * states;
  Lanes<T> dy = load(g.dy + y_offset(p, row, at, k) + block.channel, block.width);
  if (p.z) dy = backward_gate(p, g, block, s, h, own.parameters.skip, row, at, dy);
  Lanes<T> du = own.parameters.skip * dy, ddelta{};
  *own.dskip += dy * s.u;
  const auto states_part = kind == StepKind::kReset ? backward_states<T, true> : backward_states<T, false>;
  states_part(s, own, h, tile.decay + in_tile * states, dy, tile.db + in_tile * states, tile.dc + in_tile * states, du,
              ddelta, states);
  if (p.delta_softplus) {
    const Lanes<T> one = Lanes<T>{} + 1;
    ddelta *= s.raw_delta > 20 ? one : sigmoid(s.raw_delta);
  }
  *own.dbias += ddelta;
  store(to_ddelta, ddelta, block.width);
  store(to_du, add_du ? load(to_du, block.width) + du : du, block.width);
}

// Adds the lanes of the tile's dB and dC, which all blocks of a group have filled.
template <typename T>
void reduce_tile(const ScanProblem<T>& p, const ScanGradients<T>& g, const Tile<T>& tile, int64_t slice, int64_t row,
                 int64_t k, int64_t group, int64_t first, int64_t last) {
  const int64_t part = slice * p.batch * p.length * p.directions * p.groups * p.states;
  for (int64_t t = first; t < last; ++t) {
    const int64_t to = part + b_offset(p, row, p.order[k * p.length + t], k, group);
    for (int64_t n = 0; n < p.states; ++n) {
      T db = 0, dc = 0;
      for (int64_t i = 0; i < kLanes; ++i) {
        db += tile.db[(t - first) * p.states + n][i];
        dc += tile.dc[(t - first) * p.states + n][i];
      }
      g.db[to + n] += db;
      g.dc[to + n] += dc;
    }
  }
  const auto bytes = static_cast<size_t>(kTile * p.states) * sizeof(Lanes<T>);
  memset(static_cast<void*>(tile.db), 0, bytes);
  memset(static_cast<void*>(tile.dc), 0, bytes);
}

template <typename T>
void finish_block(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, int64_t row, int64_t k,
                  const BlockState<T>& own) {
  const int64_t first = (row * p.directions + k) * p.channels + block.channel;
  store_by_state(g.da + first * p.states, own.da, block.width, p.states);
  if (g.dskip) store(g.dskip + first, *own.dskip, block.width);
  if (g.ddelta_bias) store(g.ddelta_bias + first, *own.dbias, block.width);
  if (g.dinitial_state)
    store_by_state(g.dinitial_state + (row * p.channels + block.channel) * p.states, own.dh, block.width, p.states);
}

template <typename T>
void backward_direction(const ScanProblem<T>& p, const ScanGradients<T>& g, int64_t row, int64_t slice, int64_t k,
                        int64_t first_block, int64_t last_block) {
  const int64_t states = p.states, tiles = (p.length + kTile - 1) / kTile, blocks = last_block - first_block;
  const int64_t own_size = BlockState<T>::size(states);
  const size_t state_bytes = static_cast<size_t>(states) * sizeof(Lanes<T>);
  const Buffer<Lanes<T>> own_memory(blocks * own_size), starts(blocks * tiles * states),
      tile_memory((4 * kTile + 1) * states);
  const Buffer<Step<T>> steps(kTile);
  const Buffer<BlockState<T>> owns(blocks);
  const Tile<T> tile{tile_memory + 0, tile_memory + (kTile + 1) * states, tile_memory + (2 * kTile + 1) * states,
                     tile_memory + (3 * kTile + 1) * states, steps + 0};
  for (int64_t j = 0; j < blocks; ++j) {
    const Block block = block_at(p, first_block + j);
    BlockState<T>& own = *(owns + j);
    own.use(own_memory + j * own_size, states);
    read_parameters(p, block, k, own.parameters);
    const int64_t state = (row * p.channels + block.channel) * states;
    if (g.dfinal_state) load_by_state(own.dh, g.dfinal_state + state, block.width, states);
    if (p.initial_state) load_by_state(starts + j * tiles * states, p.initial_state + state, block.width, states);
    for (int64_t i = 0; i + 1 < tiles; ++i) {
      memcpy(static_cast<void*>(tile.h), starts + (j * tiles + i) * states, state_bytes);
      recompute(p, block, own.parameters, row, k, i * kTile, (i + 1) * kTile, tile);
      memcpy(static_cast<void*>(starts + (j * tiles + i + 1) * states), tile.h + kTile * states, state_bytes);
    }
  }
  for (int64_t i = tiles - 1; i >= 0; --i) {
    const int64_t first = i * kTile, last = first + kTile < p.length ? first + kTile : p.length;
    for (int64_t j = 0; j < blocks; ++j) {
      const Block block = block_at(p, first_block + j);
      const BlockState<T>& own = *(owns + j);
      memcpy(static_cast<void*>(tile.h), starts + (j * tiles + i) * states, state_bytes);
      recompute(p, block, own.parameters, row, k, first, last, tile);
      for (int64_t t = last - 1; t >= first; --t) backward_step(p, g, block, own, tile, row, k, t, t - first);
      if (j + 1 == blocks || block_at(p, first_block + j + 1).group != block.group)
        reduce_tile(p, g, tile, slice, row, k, block.group, first, last);
    }
  }
  for (int64_t j = 0; j < blocks; ++j) finish_block(p, g, block_at(p, first_block + j), row, k, *(owns + j));
}

template <typename T>
void backward(const ScanProblem<T>& p, const ScanGradients<T>& g, int64_t row, int64_t slice, int64_t first_block,
              int64_t last_block) {
  for (int64_t k = 0; k < p.directions; ++k) backward_direction(p, g, row, slice, k, first_block, last_block);
}

}  // namespace

template <typename T>
ScanKernels<T> scan_kernels() {
  return {forward<T>, backward<T>};
}
template ScanKernels<float> scan_kernels();
template ScanKernels<double> scan_kernels();

}  // namespace vlmamba::cpu::VLMAMBA_PATH
