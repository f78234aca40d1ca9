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

// Asks for memory that the next tile will need; lines of far rows come one by one, and late.
template <typename T>
inline void prefetch(const Strided<T>& tensor, int64_t row, int64_t position, int64_t k, int64_t channel) {
  if (tensor.data) __builtin_prefetch(tensor.at(row, position, k) + channel);
}

// B or C of some steps and kCount states from n on, side by side in the type of the arithmetic.
template <int kCount, typename T, typename M = Math<T>>
void gather(const Strided<const T>& from, int64_t row, int64_t k, int64_t group, int64_t n, const int32_t* at,
            int64_t count, M* to) {
  constexpr int step = kCount < kWidth<M> ? kCount : kWidth<M>;
  for (int64_t t = 0; t < count; ++t)
    for (int first = 0; first < kCount; first += step) {
      const T* source = from.at(row, at[t], k, group) + n + first;
      M* target = to + t * kCount + first;
      if constexpr (step == kWidth<M>)
        store_all(target, load_all(source));
      else
        store(target, load(source, step), step);
    }
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
