// Compiled once per instruction set with VLMAMBA_PATH = baseline | avx2 | avx512. Includes no header whose inline
// functions other files also use, so that no code of one instruction set serves another.

#include "kernels/cpu/scan_lanes.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/scan_math.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// A zeroed work area, aligned to cache lines, that frees itself; std::vector would be shared code.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 64) / 64 * 64;
    data_ = static_cast<T*>(aligned_alloc(64, bytes));
    if (data_ == nullptr) abort();
    memset(static_cast<void*>(data_), 0, bytes);
  }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* operator+(int64_t offset) const { return data_ + offset; }
  T& operator[](int64_t index) const { return data_[index]; }

 private:
  T* data_;
};

// Where the lanes of a block lie among the channels.
struct Block {
  int64_t channel, width, group;
};

template <typename T>
Block block_at(const ScanProblem<T>& p, int64_t index) {
  const int64_t size = p.channels / p.groups, per_group = blocks_per_group(p.channels, p.groups);
  const int64_t group = index / per_group, first = index % per_group * kLanes;
  return {group * size + first, size - first < kLanes ? size - first : kLanes, group};
}

template <typename T>
void load(T* lanes, const T* from, int64_t width, T other = T(0)) {
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = other;
  for (int64_t i = 0; i < width; ++i) lanes[i] = from[i];
}

template <typename T>
void load_by_state(T* lanes, const T* from, int64_t width, int64_t states) {  // [width, N] -> [N, kLanes]
  for (int64_t n = 0; n < states; ++n)
    for (int64_t i = 0; i < kLanes; ++i) lanes[n * kLanes + i] = i < width ? from[i * states + n] : T(0);
}

template <typename T>
void store_by_state(T* to, const T* lanes, int64_t width, int64_t states) {
  for (int64_t n = 0; n < states; ++n)
    for (int64_t i = 0; i < width; ++i) to[i * states + n] = lanes[n * kLanes + i];
}

// The values of one step that all states share.
template <typename T>
struct Step {
  alignas(64) T u[kLanes], raw_delta[kLanes], delta[kLanes];
  const T *b, *c;
};

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
void read_step(const ScanProblem<T>& p, const Block& block, const T* bias, int64_t row, int64_t at, int64_t k, Step<T>& s) {
  load(s.u, p.u + u_offset(p, row, at, k) + block.channel, block.width);
  load(s.raw_delta, p.delta + delta_offset(p, row, at, k) + block.channel, block.width);
  for (int64_t i = 0; i < kLanes; ++i) s.raw_delta[i] += bias[i];
  if (p.delta_softplus)
    for (int64_t i = 0; i < block.width; ++i) s.delta[i] = softplus(s.raw_delta[i]);
  else
    memcpy(s.delta, s.raw_delta, sizeof s.delta);
  for (int64_t i = block.width; i < kLanes; ++i) s.delta[i] = 0;
  s.b = p.b + b_offset(p, row, at, k, block.group);
  s.c = p.c + b_offset(p, row, at, k, block.group);
}

// h = exp(delta A) h + delta B u; keeps the decays where `decay` is given.
template <typename T>
void advance(const Step<T>& s, const T* a, T* h, T* decay, int64_t states) {
  alignas(64) T input[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) input[i] = s.delta[i] * s.u[i];
  for (int64_t n = 0; n < states; ++n) {
    T *hn = h + n * kLanes, *dn = decay + n * kLanes;
    const T* an = a + n * kLanes;
    const T bn = s.b[n];
    for (int64_t i = 0; i < kLanes; ++i) dn[i] = fast_exp(s.delta[i] * an[i]);
    for (int64_t i = 0; i < kLanes; ++i) hn[i] = dn[i] * hn[i] + bn * input[i];
  }
}

template <typename T>
void read_out(const Step<T>& s, const T* h, const T* skip, T* y, int64_t states) {
  for (int64_t i = 0; i < kLanes; ++i) y[i] = skip[i] * s.u[i];
  for (int64_t n = 0; n < states; ++n) {
    const T* hn = h + n * kLanes;
    const T cn = s.c[n];
    for (int64_t i = 0; i < kLanes; ++i) y[i] += cn * hn[i];
  }
}

template <typename T>
StepKind kind_of(const ScanProblem<T>& p, int64_t row, int64_t at) {
  return p.step == nullptr ? StepKind::kGoOn : p.step[row * p.length + at];
}

template <typename T>
void forward_block(const ScanProblem<T>& p, const ScanOutput<T>& out, int64_t row, int64_t k, const Block& block) {
  const int64_t size = p.states * kLanes;
  const Buffer<T> work(3 * size);
  T *h = work + 0, *a = work + size, *decay = work + 2 * size;
  alignas(64) T skip[kLanes], bias[kLanes], y[kLanes];
  const int64_t first = k * p.channels + block.channel;
  load_by_state(a, p.a + first * p.states, block.width, p.states);
  load(skip, p.skip + (p.skip ? first : 0), p.skip ? block.width : 0);
  load(bias, p.delta_bias + (p.delta_bias ? first : 0), p.delta_bias ? block.width : 0);
  const int64_t state = (row * p.channels + block.channel) * p.states;
  if (p.initial_state) load_by_state(h, p.initial_state + state, block.width, p.states);
  Step<T> s;
  for (int64_t t = 0; t < p.length; ++t) {
    const int64_t at = p.order[k * p.length + t];
    T* to = out.y + y_offset(p, row, at, k) + block.channel;
    const StepKind kind = kind_of(p, row, at);
    if (kind == StepKind::kPadding) {
      for (int64_t i = 0; i < block.width; ++i) to[i] = 0;
      continue;
    }
    if (kind == StepKind::kReset) memset(h, 0, static_cast<size_t>(size) * sizeof(T));
    read_step(p, block, bias, row, at, k, s);
    advance(s, a, h, decay, p.states);
    read_out(s, h, skip, y, p.states);
    if (p.z) {
      const T* z = p.z + (row * p.length + at) * p.channels + block.channel;
      for (int64_t i = 0; i < block.width; ++i) y[i] *= z[i] * sigmoid(z[i]);
    }
    if (p.merge && k > 0)
      for (int64_t i = 0; i < block.width; ++i) to[i] += y[i];
    else
      for (int64_t i = 0; i < block.width; ++i) to[i] = y[i];
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
  T *a, *da, *dh;           // [N, kLanes]; dh is the gradient that comes from later steps
  T *skip, *bias;           // [kLanes]
  T *dskip, *dbias;         // [kLanes]
  static int64_t size(int64_t states) { return 3 * states * kLanes + 4 * kLanes; }
  BlockState(T* memory, int64_t states) {
    const int64_t n = states * kLanes;
    a = memory, da = a + n, dh = da + n, skip = dh + n, bias = skip + kLanes, dskip = bias + kLanes,
    dbias = dskip + kLanes;
  }
};

// The states and decays of one tile, recomputed.
template <typename T>
struct Tile {
  T *h, *decay;    // [kTile + 1, N, kLanes] (entry 0: before the tile), [kTile, N, kLanes]
  T *db, *dc;      // [kTile, N, kLanes]: summed over the blocks of a group, lane by lane
  Step<T>* steps;  // [kTile]
};

template <typename T>
void recompute(const ScanProblem<T>& p, const Block& block, const BlockState<T>& own, int64_t row, int64_t k, int64_t first,
               int64_t last, const Tile<T>& tile) {
  const int64_t size = p.states * kLanes;
  for (int64_t t = first; t < last; ++t) {
    const int64_t at = p.order[k * p.length + t];
    T* h = tile.h + (t - first + 1) * size;
    memcpy(h, h - size, static_cast<size_t>(size) * sizeof(T));
    const StepKind kind = kind_of(p, row, at);
    if (kind == StepKind::kPadding) continue;
    if (kind == StepKind::kReset) memset(h, 0, static_cast<size_t>(size) * sizeof(T));
    read_step(p, block, own.bias, row, at, k, tile.steps[t - first]);
    advance(tile.steps[t - first], own.a, h, tile.decay + (t - first) * size, p.states);
  }
}

// The gate's part of the gradient: writes dz and turns dy into the gradient of the ungated output.
template <typename T>
void backward_gate(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, const Step<T>& s, const T* h,
                   const T* skip, int64_t row, int64_t at, T* dy) {
  alignas(64) T y[kLanes];
  read_out(s, h, skip, y, p.states);
  const int64_t offset = (row * p.length + at) * p.channels + block.channel;
  for (int64_t i = 0; i < block.width; ++i) {
    const T z = p.z[offset + i], gate = sigmoid(z);
    if (g.dz) g.dz[offset + i] = dy[i] * y[i] * gate * (T(1) + z * (T(1) - gate));
    dy[i] *= z * gate;
  }
}

// One step, last to first. h_before is null where the run starts without a state.
template <typename T>
void backward_states(const Step<T>& s, const BlockState<T>& own, const T* h, const T* h_before, const T* decay, const T* dy,
                     T* db, T* dc, T* du, T* ddelta, int64_t states) {
  alignas(64) T input[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) input[i] = s.delta[i] * s.u[i];
  for (int64_t n = 0; n < states; ++n) {
    const int64_t o = n * kLanes;
    const T bn = s.b[n], cn = s.c[n];
    for (int64_t i = 0; i < kLanes; ++i) {
      const T dh = own.dh[o + i] + cn * dy[i];
      const T carried = h_before ? decay[o + i] * h_before[o + i] : T(0);
      dc[o + i] += dy[i] * h[o + i];
      db[o + i] += dh * input[i];
      own.da[o + i] += dh * s.delta[i] * carried;
      ddelta[i] += dh * (bn * s.u[i] + own.a[o + i] * carried);
      du[i] += dh * bn * s.delta[i];
      own.dh[o + i] = h_before ? decay[o + i] * dh : T(0);
    }
  }
}

template <typename T>
void backward_step(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, const BlockState<T>& own,
                   const Tile<T>& tile, int64_t row, int64_t k, int64_t t, int64_t in_tile) {
  const int64_t at = p.order[k * p.length + t], size = p.states * kLanes;
  const int64_t u_at = u_offset(p, row, at, k) + block.channel, delta_at = delta_offset(p, row, at, k) + block.channel;
  const bool add_du = k > 0 && !p.u_per_direction;
  const StepKind kind = kind_of(p, row, at);
  if (kind == StepKind::kPadding) {
    for (int64_t i = 0; i < block.width; ++i) {
      g.ddelta[delta_at + i] = 0;
      if (!add_du) g.du[u_at + i] = 0;
      if (g.dz) g.dz[(row * p.length + at) * p.channels + block.channel + i] = 0;
    }
    return;
  }
  const Step<T>& s = tile.steps[in_tile];
  const T* h = tile.h + (in_tile + 1) * size;
  alignas(64) T dy[kLanes], du[kLanes], ddelta[kLanes];
  load(dy, g.dy + y_offset(p, row, at, k) + block.channel, block.width);
  if (p.z) backward_gate(p, g, block, s, h, own.skip, row, at, dy);
  for (int64_t i = 0; i < kLanes; ++i) {
    du[i] = own.skip[i] * dy[i];
    ddelta[i] = 0;
    own.dskip[i] += dy[i] * s.u[i];
  }
  backward_states(s, own, h, kind == StepKind::kReset ? nullptr : h - size, tile.decay + in_tile * size, dy,
                  tile.db + in_tile * size, tile.dc + in_tile * size, du, ddelta, p.states);
  for (int64_t i = 0; i < block.width; ++i) {
    const T slope = p.delta_softplus && s.raw_delta[i] <= T(20) ? sigmoid(s.raw_delta[i]) : T(1);
    g.ddelta[delta_at + i] = ddelta[i] * slope;
    own.dbias[i] += ddelta[i] * slope;
    if (add_du)
      g.du[u_at + i] += du[i];
    else
      g.du[u_at + i] = du[i];
  }
}

// Adds the lanes of the tile's dB and dC, which all blocks of a group have filled.
template <typename T>
void reduce_tile(const ScanProblem<T>& p, const ScanGradients<T>& g, const Tile<T>& tile, int64_t slice, int64_t row, int64_t k,
                 int64_t group, int64_t first, int64_t last) {
  const int64_t part = slice * p.batch * p.length * p.directions * p.groups * p.states;
  for (int64_t t = first; t < last; ++t) {
    const int64_t to = part + b_offset(p, row, p.order[k * p.length + t], k, group);
    for (int64_t n = 0; n < p.states; ++n) {
      T db = 0, dc = 0;
      for (int64_t i = 0; i < kLanes; ++i) {
        db += tile.db[((t - first) * p.states + n) * kLanes + i];
        dc += tile.dc[((t - first) * p.states + n) * kLanes + i];
      }
      g.db[to + n] += db;
      g.dc[to + n] += dc;
    }
  }
  const auto bytes = static_cast<size_t>(kTile * p.states * kLanes) * sizeof(T);
  memset(tile.db, 0, bytes);
  memset(tile.dc, 0, bytes);
}

template <typename T>
void start_block(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, int64_t row, int64_t k,
                 BlockState<T>& own) {
  const int64_t first = k * p.channels + block.channel, state = (row * p.channels + block.channel) * p.states;
  load_by_state(own.a, p.a + first * p.states, block.width, p.states);
  load(own.skip, p.skip + (p.skip ? first : 0), p.skip ? block.width : 0);
  load(own.bias, p.delta_bias + (p.delta_bias ? first : 0), p.delta_bias ? block.width : 0);
  if (g.dfinal_state) load_by_state(own.dh, g.dfinal_state + state, block.width, p.states);
}

template <typename T>
void finish_block(const ScanProblem<T>& p, const ScanGradients<T>& g, const Block& block, int64_t row, int64_t k,
                  const BlockState<T>& own) {
  const int64_t first = (row * p.directions + k) * p.channels + block.channel;
  store_by_state(g.da + first * p.states, own.da, block.width, p.states);
  for (int64_t i = 0; i < block.width; ++i) {
    if (g.dskip) g.dskip[first + i] = own.dskip[i];
    if (g.ddelta_bias) g.ddelta_bias[first + i] = own.dbias[i];
  }
  if (g.dinitial_state)
    store_by_state(g.dinitial_state + (row * p.channels + block.channel) * p.states, own.dh, block.width, p.states);
}

template <typename T>
void backward_direction(const ScanProblem<T>& p, const ScanGradients<T>& g, int64_t row, int64_t slice, int64_t k,
                        int64_t first_block, int64_t last_block) {
  const int64_t size = p.states * kLanes, tiles = (p.length + kTile - 1) / kTile, blocks = last_block - first_block;
  const int64_t own_size = BlockState<T>::size(p.states);
  const Buffer<T> own_memory(blocks * own_size), starts(blocks * tiles * size), tile_memory((4 * kTile + 1) * size);
  const Buffer<Step<T>> steps(kTile);
  const Tile<T> tile{tile_memory + 0, tile_memory + (kTile + 1) * size, tile_memory + (2 * kTile + 1) * size,
                     tile_memory + (3 * kTile + 1) * size, steps + 0};
  for (int64_t j = 0; j < blocks; ++j) {
    const Block block = block_at(p, first_block + j);
    BlockState<T> own(own_memory + j * own_size, p.states);
    start_block(p, g, block, row, k, own);
    if (p.initial_state)
      load_by_state(starts + j * tiles * size, p.initial_state + (row * p.channels + block.channel) * p.states, block.width,
                    p.states);
    for (int64_t i = 0; i + 1 < tiles; ++i) {
      memcpy(tile.h, starts + (j * tiles + i) * size, static_cast<size_t>(size) * sizeof(T));
      recompute(p, block, own, row, k, i * kTile, (i + 1) * kTile, tile);
      memcpy(starts + (j * tiles + i + 1) * size, tile.h + kTile * size, static_cast<size_t>(size) * sizeof(T));
    }
  }
  for (int64_t i = tiles - 1; i >= 0; --i) {
    const int64_t first = i * kTile, last = first + kTile < p.length ? first + kTile : p.length;
    for (int64_t j = 0; j < blocks; ++j) {
      const Block block = block_at(p, first_block + j);
      const BlockState<T> own(own_memory + j * own_size, p.states);
      memcpy(tile.h, starts + (j * tiles + i) * size, static_cast<size_t>(size) * sizeof(T));
      recompute(p, block, own, row, k, first, last, tile);
      for (int64_t t = last - 1; t >= first; --t) backward_step(p, g, block, own, tile, row, k, t, t - first);
      if (j + 1 == blocks || block_at(p, first_block + j + 1).group != block.group)
        reduce_tile(p, g, tile, slice, row, k, block.group, first, last);
    }
  }
  for (int64_t j = 0; j < blocks; ++j)
    finish_block(p, g, block_at(p, first_block + j), row, k, BlockState<T>(own_memory + j * own_size, p.states));
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
