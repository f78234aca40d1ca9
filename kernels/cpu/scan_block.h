#pragma once

// What the forward and the backward scans share: the steps of a row, a block's parameters, and the recurrence over one
// group of states that the registers hold.

#include "kernels/cpu/registers.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// The steps of a row in one direction that are no padding.
struct Steps {
  const int32_t* at;  // [count]: their positions
  const bool* reset;  // [count] or null: whether a step starts a run with nothing before it
  int64_t count;
};

// Neighbouring blocks take turns in a tile, so that memory is fetched in longer pieces than a block is wide: lines of
// far positions alone come late and one by one.
constexpr int64_t kStrip = 8;
struct Turn {
  int64_t block, blocks;  // of the strip
};
// The blocks of the strip that starts with block `first` of a share.
inline int64_t strip_blocks(const Share& share, int64_t first) {
  return share.last_block - first < kStrip ? share.last_block - first : kStrip;
}

// Finds the steps of rows; holds what it finds until the next row is asked for.
template <typename T>
class StepFinder {
 public:
  explicit StepFinder(const ScanProblem<T>& problem)
      : p_(problem), at_(problem.step ? problem.length : 0), reset_(problem.step ? problem.length : 0) {}

  Steps operator()(int64_t row, int64_t k) const {
    const int32_t* order = p_.order + k * p_.length;
    if (p_.step == nullptr) return {order, nullptr, p_.length};
    int64_t count = 0;
    for (int64_t t = 0; t < p_.length; ++t) {
      const StepKind kind = p_.step[row * p_.length + order[t]];
      if (kind == StepKind::kPadding) continue;
      at_[count] = order[t];
      reset_[count++] = kind == StepKind::kReset;
    }
    return {at_, reset_, count};
  }

 private:
  const ScanProblem<T>& p_;
  const Memory<int32_t> at_;
  const Memory<bool> reset_;
};

// The time step that a decay is made of. Where a run starts there is nothing to decay, and an infinite decay of nothing
// would be NaN.
template <typename V>
inline V step_of_decay(V delta, const bool* reset, int64_t t) {
  return reset && reset[t] ? V{} : delta;
}

template <typename M>
struct Parameters {
  Register<M> skip, bias;
  Register<M>* a;  // [N]: A log2(e), so that decays are powers of two
};

template <typename T, typename M = Math<T>>
void read_parameters(const ScanProblem<T>& p, const Block& block, int64_t k, Parameters<M>& own) {
  const int64_t first = k * p.channels + block.channel;
  load_by_state(own.a, p.a + first * p.states, block.width, p.states);
  for (int64_t n = 0; n < p.states; ++n) own.a[n] *= static_cast<M>(kLog2E);
  own.skip = p.skip ? load(p.skip + first, block.width) : Register<M>{};
  own.bias = p.delta_bias ? load(p.delta_bias + first, block.width) : Register<M>{};
}

template <typename T, typename M = Math<T>>
void read_initial_state(const ScanProblem<T>& p, const Block& block, int64_t row, Register<M>* h) {
  if (p.initial_state)
    load_by_state(h, p.initial_state + (row * p.channels + block.channel) * p.states, block.width, p.states);
  else
    for (int64_t n = 0; n < p.states; ++n) h[n] = Register<M>{};
}

// A block's channels of one row and direction, by position.
template <typename T>
struct Column {
  T* data;
  int64_t step;

  T* operator[](int64_t position) const { return data + position * step; }
};
template <typename T>
Column<T> column(const Strided<T>& tensor, int64_t row, int64_t k, const Block& block) {
  if (tensor.data == nullptr) return {nullptr, 0};
  return {tensor.at(row, 0, k) + block.channel, tensor.position};
}

// Asks for the memory of a whole strip at a position. Of several tensors each is another block's task.
template <typename T>
inline void prefetch(const Column<T>& own, int64_t position, int64_t task, const Turn& turn) {
  if (own.data == nullptr || task % turn.blocks != turn.block) return;
  for (int64_t j = 0; j < turn.blocks; ++j)
    __builtin_prefetch(own[position] + (j - turn.block) * kWidth<Math<std::remove_const_t<T>>>);
}

// B or C of some steps and kCount states from n on, side by side in the type of the arithmetic.
template <int kCount, typename T, typename M = Math<T>>
void gather(const Strided<const T>& from, int64_t row, int64_t k, int64_t group, int64_t n, const int32_t* at,
            int64_t count, M* to) {
  const T* source = from.at(row, 0, k, group) + n;
  for (int64_t t = 0; t < count; ++t) widen<kCount>(source + at[t] * from.position, to + t * kCount);
}

// Calls work(Count<c>(), n) for the groups of states n .. n+c-1 that make up all of them, the largest first.
template <int kValue>
struct Count {
  static constexpr int value = kValue;
};
template <int kLargest, typename Work>
void for_state_groups(int64_t states, const Work& work, int64_t n = 0) {
  for (; states - n >= kLargest; n += kLargest) work(Count<kLargest>(), n);
  if constexpr (kLargest > 1) for_state_groups<kLargest / 2>(states, work, n);
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
