#pragma once

// What a step of a causal convolution sees behind it: inputs of its run, then the initial state or nothing.

#include "kernels/cuda/causal_conv1d.h"
#include "kernels/cuda/scan_order.h"
#include "kernels/cuda/tasks.h"
#include "kernels/cuda/vector.h"

namespace vlmamba::cuda {

/// One row and direction, and kVector channels of it from `channel` on. Steps t count along the direction.
template <class T, int kVector>
struct ConvRow {
  using Math = MathType<T>;
  const ConvProblem<T>& p;
  int64_t row;
  int k;
  int64_t channel;

  __device__ int64_t pixel(int64_t t) const { return pixel_of_step(k, p.directions, t, p.length, p.width); }
  __device__ int64_t x_offset(int64_t t) const { return (row * p.length + pixel(t)) * p.channels + channel; }
  __device__ int64_t y_offset(int64_t t) const {
    return ((row * p.length + pixel(t)) * p.directions + k) * p.channels + channel;
  }
  __device__ int64_t state_offset(int64_t slot) const { return (row * (p.taps - 1) + slot) * p.channels + channel; }
  __device__ const Math* weight(int64_t tap) const { return p.weight + k * p.weight_step + tap * p.channels + channel; }

  __device__ int id(int64_t t) const { return p.seq_idx ? p.seq_idx[row * p.length + t] : 0; }
  __device__ int64_t first() const { return p.seq_idx ? p.bounds[2 * row] : 0; }
  __device__ int64_t last() const { return p.seq_idx ? p.bounds[2 * row + 1] : p.length - 1; }

  /// Where the run that holds t begins, but no more than `reach` steps back.
  __device__ int64_t run_start(int64_t t, int64_t reach) const {
    const int64_t earliest = t > reach ? t - reach : 0;
    if (!p.seq_idx) return earliest;
    int64_t start = t;
    while (start > earliest && id(start - 1) == id(t)) --start;
    return start;
  }

  /// The input `back` steps before t, which is not padding, where the run begins at `start` as run_start gives it.
  __device__ void input(int64_t t, int64_t back, int64_t start, Math (&to)[kVector]) const {
    const int64_t s = t - back;
    if (s >= start)
      load(p.x + x_offset(s), to);
    else if (p.initial_state && start == first())
      load(p.initial_state + state_offset(p.taps - 1 + s - start), to);
    else
      fill(to, Math(0));
  }

  /// The output of step t, which is not padding, before its activation.
  __device__ void sum(int64_t t, Math (&to)[kVector]) const {
    const int64_t start = run_start(t, p.taps - 1);
    if (p.bias)
      load(p.bias + k * p.bias_step + channel, to);
    else
      fill(to, Math(0));
    for (int tap = 0; tap < p.taps; ++tap) {
      Math weights[kVector], inputs[kVector];
      load(weight(tap), weights);
      input(t, p.taps - 1 - tap, start, inputs);
#pragma unroll
      for (int i = 0; i < kVector; ++i) to[i] += weights[i] * inputs[i];
    }
  }

  /// Adds what the final state's gradient gives to the input of step s.
  __device__ void add_final(const T* dfinal_state, int64_t s, Math (&to)[kVector]) const {
    const int64_t end = last(), slot = s - (end - (p.taps - 2));
    if (!dfinal_state || slot < 0 || s > end || s < run_start(end, p.taps - 1)) return;
    Math from[kVector];
    load(dfinal_state + state_offset(slot), from);
#pragma unroll
    for (int i = 0; i < kVector; ++i) to[i] += from[i];
  }
};

/// A thread's share: kVector channels of a chunk of one row, and one direction or all.
struct ConvTask {
  int64_t row, chunk, channel;
  int k;

  __device__ ConvTask(int64_t index, int64_t vectors, int vector_size, int64_t chunks, int directions) {
    channel = index % vectors * vector_size;
    index /= vectors;
    chunk = index % chunks;
    index /= chunks;
    k = static_cast<int>(index % directions);
    row = index / directions;
  }
};

}  // namespace vlmamba::cuda
