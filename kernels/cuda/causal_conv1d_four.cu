// The causal convolutions of four taps, Mamba's own: a thread walks along a chunk with its last inputs in registers,
// four channels at a time where they are aligned, and reads each input once.

#include "kernels/cuda/activation.h"
#include "kernels/cuda/causal_conv1d.h"
#include "kernels/cuda/conv_row.h"

namespace vlmamba::cuda {
namespace {

constexpr int kTaps = 4, kBack = kTaps - 1, kVector = 4;

template <class T, int kWidth>
struct Walk {
  using Math = MathType<T>;
  const ConvRow<T, kWidth> row;
  Math weight[kTaps][kWidth], bias[kWidth];
  Math window[kTaps][kWidth];  // oldest first; the last one is the current input
  int previous;                // the id before the current step; -1 after padding

  /// Ready to take step t.
  __device__ Walk(const ConvRow<T, kWidth>& of, int64_t t) : row(of), previous(t > 0 ? of.id(t - 1) : -1) {
    const ConvProblem<T>& p = row.p;
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) load(row.weight(tap), weight[tap]);
    if (p.bias)
      load(p.bias + row.k * p.bias_step + row.channel, bias);
    else
      fill(bias, Math(0));
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) fill(window[tap], Math(0));
    if (previous < 0) return;
    const int64_t start = row.run_start(t - 1, kBack);
#pragma unroll
    for (int slot = 0; slot < kBack; ++slot) row.input(t - 1, kBack - 1 - slot, start, window[slot]);
  }

  /// Whether step t, which is not padding, begins a run. Then nothing of the last run is in the window.
  __device__ bool enter(int64_t t, int id) {
    const bool begins = id != previous;
    previous = id;
    if (!begins) return false;
    const bool initial = row.p.initial_state && t == row.first();
#pragma unroll
    for (int slot = 0; slot < kBack; ++slot) {
      if (initial)
        load(row.p.initial_state + row.state_offset(slot), window[slot]);
      else
        fill(window[slot], Math(0));
    }
    return true;
  }

  /// Takes a step's input and gives the output before its activation.
  __device__ void sum(const Pack<T, kWidth>& input, Math (&to)[kWidth]) {
    unpack(input, window[kBack]);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      to[i] = bias[i];
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) to[i] += weight[tap][i] * window[tap][i];
    }
  }

  __device__ void slide() {
#pragma unroll
    for (int slot = 0; slot < kBack; ++slot)
#pragma unroll
      for (int i = 0; i < kWidth; ++i) window[slot][i] = window[slot + 1][i];
  }
};

// What the next steps read, asked for together: a thread alone would wait for each in turn. 64 bytes of four channels.
template <class T, int kWidth, int kSteps>
struct Ahead {
  Pack<T, kWidth> input[kSteps] = {};
  int id[kSteps];

  __device__ Ahead(const ConvRow<T, kWidth>& row, int64_t t, int64_t end) {
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      id[j] = t + j < end ? row.id(t + j) : -1;
      if (id[j] >= 0) input[j] = fetch<kWidth>(row.p.x + row.x_offset(t + j));
    }
  }
};

template <class T, int kWidth>
__global__ __launch_bounds__(kTaskThreads) void forward(ConvProblem<T> p, T* y, int64_t chunk, int64_t chunks,
                                                        int64_t tasks) {
  constexpr int kSteps = 16 / sizeof(T);
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels / kWidth, kWidth, chunks, p.directions);
    const int64_t first = task.chunk * chunk, last = min(first + chunk, p.length);
    Walk<T, kWidth> walk({p, task.row, task.k, task.channel}, first);
    for (int64_t t = first; t < last; t += kSteps) {
      const Ahead<T, kWidth, kSteps> ahead(walk.row, t, last);
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        if (t + j >= last) continue;
        MathType<T> sum[kWidth];
        if (ahead.id[j] >= 0) {
          walk.enter(t + j, ahead.id[j]);
          walk.sum(ahead.input[j], sum);
          walk.slide();
          if (p.silu)
#pragma unroll
            for (int i = 0; i < kWidth; ++i) sum[i] = silu(sum[i]);
        } else {
          walk.previous = -1;
          fill(sum, MathType<T>(0));
        }
        store(y + walk.row.y_offset(t + j), sum);
      }
    }
  }
}

// Where input gradients go: to dx at once, or by way of fp32 sums over the directions.
template <class T>
struct Target {
  T* dx;
  MathType<T>* sums;
  bool first, last;  // of the directions, in the order in which they are added

  template <int kWidth>
  __device__ void put(int64_t offset, MathType<T> (&values)[kWidth]) const {
    if (!first) {
      MathType<T> before[kWidth];
      load(sums + offset, before);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] += before[i];
    }
    if (last)
      store(dx + offset, values);
    else
      store(sums + offset, values);
  }
};

// One direction of a chunk, [first, last). An input's gradient is complete three steps after it, or where its run ends:
// so the walk goes on for three steps behind the chunk, whose weight gradients are those of the next one.
template <class T, int kWidth>
struct BackWalk {
  using Math = MathType<T>;
  Walk<T, kWidth> walk;
  const ConvGradients<T>& g;
  const Target<T> target;
  const int64_t last;
  Math pending[kBack][kWidth];  // [j]: what the input of j + 1 steps ago has got so far
  int held = 0;                 // how many of them are inputs of this walk and of the current run
  Math dweight[kTaps][kWidth], dbias[kWidth];

  __device__ BackWalk(const ConvRow<T, kWidth>& row, const ConvGradients<T>& gradients, const Target<T>& to,
                      int64_t first, int64_t last_)
      : walk(row, first), g(gradients), target(to), last(last_) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) fill(dweight[tap], Math(0));
#pragma unroll
    for (int j = 0; j < kBack; ++j) fill(pending[j], Math(0));
    fill(dbias, Math(0));
  }

  __device__ void finish(int64_t s, Math (&dx)[kWidth]) const {
    if (s >= last) return;
    walk.row.add_final(g.dfinal_state, s, dx);
    target.put(walk.row.x_offset(s), dx);
  }

  /// No step from t on gives to what is held.
  __device__ void release(int64_t t) {
#pragma unroll
    for (int j = kBack - 1; j >= 0; --j) {
      if (j < held) finish(t - 1 - j, pending[j]);
      fill(pending[j], Math(0));
    }
    held = 0;
  }

  /// A step of padding.
  __device__ void skip(int64_t t) {
    Math nothing[kWidth];
    fill(nothing, Math(0));
    target.put(walk.row.x_offset(t), nothing);
    walk.previous = -1;
  }

  __device__ void step(int64_t t, const Pack<T, kWidth>& input, const Pack<T, kWidth>& dy) {
    Math sum[kWidth], d[kWidth], own[kWidth];
    walk.sum(input, sum);
    unpack(dy, d);
    if (walk.row.p.silu)
#pragma unroll
      for (int i = 0; i < kWidth; ++i) d[i] *= silu_slope(sum[i]);
    const bool counts = t < last;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      own[i] = walk.weight[kTaps - 1][i] * d[i];
#pragma unroll
      for (int j = 0; j < kBack; ++j) pending[j][i] += walk.weight[kBack - 1 - j][i] * d[i];
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) dweight[tap][i] += counts ? d[i] * walk.window[tap][i] : 0;
      dbias[i] += counts ? d[i] : 0;
    }
    if (held == kBack) finish(t - kBack, pending[kBack - 1]);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
#pragma unroll
      for (int j = kBack - 1; j > 0; --j) pending[j][i] = pending[j - 1][i];
      pending[0][i] = own[i];
    }
    held = held < kBack ? held + 1 : kBack;
    walk.slide();
  }
};

// Walks the steps [first, last) of a direction.
template <class T, int kWidth>
__device__ void walk_chunk(BackWalk<T, kWidth>& back, int64_t first, int64_t last) {
  constexpr int kSteps = kWidth == 1 ? 2 : 8 / sizeof(T);
  const ConvRow<T, kWidth>& row = back.walk.row;
  const int64_t end = min(last + kBack, row.p.length);
  bool open = true;  // until the last run that began in the chunk has ended
  for (int64_t t = first; t < end && open; t += kSteps) {
    const Ahead<T, kWidth, kSteps> ahead(row, t, end);
    Pack<T, kWidth> dy[kSteps] = {};
#pragma unroll
    for (int j = 0; j < kSteps; ++j)
      if (ahead.id[j] >= 0) dy[j] = fetch<kWidth>(back.g.dy + row.y_offset(t + j));
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      if (t + j >= end || !open) continue;
      if (ahead.id[j] < 0 || back.walk.enter(t + j, ahead.id[j])) {
        back.release(t + j);
        open = t + j < last;
      }
      if (open && ahead.id[j] >= 0) back.step(t + j, ahead.input[j], dy[j]);
      if (open && ahead.id[j] < 0) back.skip(t + j);
    }
  }
  back.release(end);
}

// Tasks: (row, chunk, channels); a thread goes through the directions `k_first, k_first + k_step, ...` in their order.
// Those of one launch share the chunk's pixels: 0 and 2 the rows, 1 and 3 the columns.
template <class T, int kWidth>
__global__ __launch_bounds__(kTaskThreads) void backward(ConvProblem<T> p, ConvGradients<T> g, int k_first, int k_step,
                                                         int64_t chunk, int64_t chunks, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels / kWidth, kWidth, chunks, 1);
    for (int k = k_first; k < p.directions; k += k_step) {
      const bool reversed = p.directions == 2 ? k == 1 : k >= 2;
      const int64_t begin = task.chunk * chunk, end = min(begin + chunk, p.length);
      const int64_t first = reversed ? p.length - end : begin, last = reversed ? p.length - begin : end;
      const Target<T> target{g.dx, g.scratch, k == 0, k == (p.directions == 4 ? 3 : p.directions - 1)};
      BackWalk<T, kWidth> back({p, task.row, k, task.channel}, g, target, first, last);
      walk_chunk(back, first, last);
      const int64_t part = (task.row * chunks + task.chunk) * p.directions + k;
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap)
        if (g.dweight) store(g.dweight + (part * kTaps + tap) * p.channels + task.channel, back.dweight[tap]);
      if (g.dbias) store(g.dbias + part * p.channels + task.channel, back.dbias);
    }
  }
}

template <class T, int kWidth>
cudaError_t backward_of_width(const ConvProblem<T>& p, const ConvGradients<T>& g, int64_t chunk, cudaStream_t stream) {
  const int64_t chunks = ceil_divide(p.length, chunk), tasks = p.batch * chunks * (p.channels / kWidth);
  const int axes = p.directions == 4 ? 2 : 1;
  for (int axis = 0; axis < axes; ++axis) {
    const cudaError_t error = launch(backward<T, kWidth>, task_blocks(tasks), kTaskThreads, 0, stream, p, g, axis, axes,
                                     chunk, chunks, tasks);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Weights and biases are in the type of the arithmetic, and may be views at any offset, as all else.
template <class T>
bool fits_vectors_of(const ConvProblem<T>& p, std::initializer_list<const void*> addresses) {
  return fits_vectors(kVector, sizeof(T), p.channels, addresses) &&
         fits_vectors(kVector, sizeof(MathType<T>), p.channels, {p.weight, p.bias});
}

}  // namespace

template <class T>
cudaError_t conv_forward_four(const ConvProblem<T>& p, T* y, int64_t chunk, cudaStream_t stream) {
  const int64_t chunks = ceil_divide(p.length, chunk), tasks = p.batch * chunks * p.directions * p.channels;
  if (fits_vectors_of(p, {p.x, p.initial_state, y}))
    return launch(forward<T, kVector>, task_blocks(tasks / kVector), kTaskThreads, 0, stream, p, y, chunk, chunks,
                  tasks / kVector);
  return launch(forward<T, 1>, task_blocks(tasks), kTaskThreads, 0, stream, p, y, chunk, chunks, tasks);
}

template <class T>
cudaError_t conv_backward_four(const ConvProblem<T>& p, const ConvGradients<T>& g, int64_t chunk, cudaStream_t stream) {
  if (fits_vectors_of(p, {p.x, p.initial_state, g.dy, g.dfinal_state, g.dx}))
    return backward_of_width<T, kVector>(p, g, chunk, stream);
  return backward_of_width<T, 1>(p, g, chunk, stream);
}

#define INSTANTIATE(T)                                                                      \
  template cudaError_t conv_forward_four(const ConvProblem<T>&, T*, int64_t, cudaStream_t); \
  template cudaError_t conv_backward_four(const ConvProblem<T>&, const ConvGradients<T>&, int64_t, cudaStream_t)

INSTANTIATE(float);
INSTANTIATE(__half);
INSTANTIATE(__nv_bfloat16);

}  // namespace vlmamba::cuda
