// The causal convolutions for any number of taps and type: each output reads its inputs anew. What all widths share,
// the states and the step of decoding, is here too. Tasks are (row, chunk of steps, channels), channels fastest.

#include "kernels/cuda/activation.h"
#include "kernels/cuda/causal_conv1d.h"
#include "kernels/cuda/conv_row.h"

namespace vlmamba::cuda {
namespace {

template <class T>
constexpr bool kHasFour = !std::is_same_v<T, double>;

template <class T>
__global__ __launch_bounds__(kTaskThreads) void forward(ConvProblem<T> p, T* y, int64_t chunk, int64_t chunks,
                                                        int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels, 1, chunks, p.directions);
    const ConvRow<T, 1> row{p, task.row, task.k, task.channel};
    for (int64_t t = task.chunk * chunk; t < min((task.chunk + 1) * chunk, p.length); ++t) {
      MathType<T> sum[1] = {0};
      if (row.id(t) >= 0) {
        row.sum(t, sum);
        if (p.silu) sum[0] = silu(sum[0]);
      }
      store(y + row.y_offset(t), sum);
    }
  }
}

// The last W-1 inputs of the last run. Tasks: (row, slot, channel).
template <class T>
__global__ __launch_bounds__(kTaskThreads) void final_states(ConvProblem<T> p, T* final_state, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels, 1, p.taps - 1, 1);
    const ConvRow<T, 1> row{p, task.row, 0, task.channel};
    const int64_t end = row.last(), offset = row.state_offset(task.chunk);
    MathType<T> value[1] = {0};
    if (end >= 0)
      row.input(end, p.taps - 2 - task.chunk, row.run_start(end, p.taps - 1), value);
    else if (p.initial_state)
      load(p.initial_state + offset, value);
    store(final_state + offset, value);
  }
}

// The gradient of the sum before the activation: 0 for padding.
template <class T>
__device__ MathType<T> slope(const ConvRow<T, 1>& row, const T* dy, int64_t t) {
  if (row.id(t) < 0) return 0;
  const MathType<T> gradient = to_math(dy[row.y_offset(t)]);
  if (!row.p.silu) return gradient;
  MathType<T> sum[1];
  row.sum(t, sum);
  return gradient * silu_slope(sum[0]);
}

// scratch [B,L,K,D] = the slopes. Tasks as forward.
template <class T>
__global__ __launch_bounds__(kTaskThreads) void slopes(ConvProblem<T> p, const T* dy, MathType<T>* scratch,
                                                       int64_t chunk, int64_t chunks, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels, 1, chunks, p.directions);
    const ConvRow<T, 1> row{p, task.row, task.k, task.channel};
    for (int64_t t = task.chunk * chunk; t < min((task.chunk + 1) * chunk, p.length); ++t)
      scratch[row.y_offset(t)] = slope(row, dy, t);
  }
}

// Tasks: (row, chunk of pixels, channel); directions are added in their order.
template <class T>
__global__ __launch_bounds__(kTaskThreads) void input_gradients(ConvProblem<T> p, ConvGradients<T> g, int64_t chunk,
                                                                int64_t chunks, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels, 1, chunks, 1);
    for (int64_t pixel = task.chunk * chunk; pixel < min((task.chunk + 1) * chunk, p.length); ++pixel) {
      MathType<T> dx[1] = {0};
      for (int k = 0; k < p.directions; ++k) {
        const ConvRow<T, 1> row{p, task.row, k, task.channel};
        const int64_t s = step_of_pixel(k, p.directions, pixel, p.length, p.width);
        const int id = row.id(s);
        if (id < 0) break;
        for (int64_t t = s; t < min(s + p.taps, p.length) && row.id(t) == id; ++t)
          dx[0] += *row.weight(p.taps - 1 - (t - s)) * g.scratch[row.y_offset(t)];
        row.add_final(g.dfinal_state, s, dx);
      }
      g.dx[(task.row * p.length + pixel) * p.channels + task.channel] = from_math<T>(dx[0]);
    }
  }
}

// dweight [R,K,W,D] and dbias [R,K,D]: a chunk's sums. Tasks as forward.
template <class T>
__global__ __launch_bounds__(kTaskThreads) void weight_gradients(ConvProblem<T> p, ConvGradients<T> g, int64_t chunk,
                                                                 int64_t chunks, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels, 1, chunks, p.directions);
    const ConvRow<T, 1> row{p, task.row, task.k, task.channel};
    const int64_t first = task.chunk * chunk, last = min(first + chunk, p.length);
    const int64_t part = (task.row * chunks + task.chunk) * p.directions + task.k;
    for (int tap = 0; tap < p.taps; ++tap) {
      MathType<T> dweight = 0, dbias = 0, input[1];
      for (int64_t t = first; t < last; ++t) {
        if (row.id(t) < 0) continue;
        const MathType<T> d = g.scratch[row.y_offset(t)];
        row.input(t, p.taps - 1 - tap, row.run_start(t, p.taps - 1), input);
        dweight += d * input[0];
        dbias += d;
      }
      if (g.dweight) g.dweight[(part * p.taps + tap) * p.channels + task.channel] = dweight;
      if (g.dbias && tap == 0) g.dbias[part * p.channels + task.channel] = dbias;
    }
  }
}

// What the first run's outputs, and the final state where that run is short, give to the initial state. Tasks: (row,
// slot, channel).
template <class T>
__global__ __launch_bounds__(kTaskThreads) void initial_gradients(ConvProblem<T> p, ConvGradients<T> g, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const ConvTask task(index, p.channels, 1, p.taps - 1, 1);
    const ConvRow<T, 1> row{p, task.row, 0, task.channel};
    const int64_t slot = task.chunk, start = row.first(), end = row.last();
    MathType<T> gradient = 0;
    for (int64_t i = 0; i <= slot && start + i < p.length && row.id(start + i) == row.id(start); ++i)
      gradient += *row.weight(slot - i) * slope(row, g.dy, start + i);
    // Of a row without inputs the final state is the initial one; else it has moved by the inputs of the first run.
    const int64_t moved = end < 0 ? 0 : end + 1 - start, to = slot - moved;
    if (g.dfinal_state && to >= 0 && (end < 0 || row.run_start(end, p.taps - 1) == start))
      gradient += to_math(g.dfinal_state[row.state_offset(to)]);
    g.dinitial_state[row.state_offset(slot)] = from_math<T>(gradient);
  }
}

// A block per row.
__global__ __launch_bounds__(kTaskThreads) void row_bounds(const int32_t* seq_idx, int32_t* bounds, int64_t batch,
                                                           int64_t length) {
  int* partial = dynamic_shared<int>();  // [warps][2]
  constexpr int kWarps = kTaskThreads / 32;
  for (int64_t row = blockIdx.x; row < batch; row += gridDim.x) {
    int first = static_cast<int>(length), last = -1;
    for (int64_t t = threadIdx.x; t < length; t += kTaskThreads) {
      if (seq_idx[row * length + t] < 0) continue;
      first = min(first, static_cast<int>(t));
      last = static_cast<int>(t);
    }
    for (int step = 16; step > 0; step /= 2) {
      first = min(first, __shfl_xor_sync(~0u, first, step));
      last = max(last, __shfl_xor_sync(~0u, last, step));
    }
    const int warp = static_cast<int>(threadIdx.x) / 32;
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[2 * warp] = first, partial[2 * warp + 1] = last;
    __syncthreads();
    if (threadIdx.x > 0) continue;
    for (int other = 1; other < kWarps; ++other) {
      first = min(first, partial[2 * other]);
      last = max(last, partial[2 * other + 1]);
    }
    bounds[2 * row] = first;
    bounds[2 * row + 1] = last;
  }
}

template <class T>
__global__ __launch_bounds__(kTaskThreads) void update(const T* x, T* state, const MathType<T>* weight,
                                                       const MathType<T>* bias, T* y, int64_t channels, int taps,
                                                       bool with_silu, int64_t tasks) {
  for (int64_t index = first_task(); index < tasks; index += task_stride()) {
    const int64_t row = index / channels, channel = index % channels;
    T* window = state + row * (taps - 1) * channels + channel;
    MathType<T> sum = bias ? bias[channel] : 0;
    for (int tap = 0; tap < taps; ++tap) {
      const T input = tap + 1 < taps ? window[tap * channels] : x[index];
      if (tap > 0) window[(tap - 1) * channels] = input;
      sum += weight[tap * channels + channel] * to_math(input);
    }
    y[index] = from_math<T>(with_silu ? silu(sum) : sum);
  }
}

}  // namespace

int64_t conv_chunk(int64_t batch, int64_t length, int64_t channels, int multiprocessors) {
  constexpr int64_t kThreadsPerMultiprocessor = 2048, kVector = 4;
  int64_t chunk = 128;
  while (chunk > 8 &&
         batch * ceil_divide(length, chunk) * channels < kThreadsPerMultiprocessor * kVector * multiprocessors)
    chunk /= 2;
  return chunk;
}

template <class T>
int64_t conv_scratch_size(const ConvProblem<T>& p) {
  if (kHasFour<T> && p.taps == 4) return p.directions > 1 ? p.batch * p.length * p.channels : 0;
  return p.batch * p.length * p.directions * p.channels;
}

cudaError_t bounds_of_rows(const int32_t* seq_idx, int32_t* bounds, int64_t batch, int64_t length,
                           cudaStream_t stream) {
  if (batch == 0) return cudaSuccess;
  return launch(row_bounds, static_cast<unsigned>(min(batch, kMaxBlocks)), kTaskThreads,
                2 * sizeof(int) * kTaskThreads / 32, stream, seq_idx, bounds, batch, length);
}

template <class T>
cudaError_t conv_forward(const ConvProblem<T>& p, T* y, T* final_state, int64_t chunk, cudaStream_t stream) {
  const int64_t chunks = ceil_divide(p.length, chunk), tasks = p.batch * chunks * p.directions * p.channels;
  const int64_t states = p.batch * (p.taps - 1) * p.channels;
  cudaError_t error = cudaSuccess;
  if (final_state && states > 0)
    error = launch(final_states<T>, task_blocks(states), kTaskThreads, 0, stream, p, final_state, states);
  if (error != cudaSuccess || tasks == 0) return error;
  if constexpr (kHasFour<T>)
    if (p.taps == 4) return conv_forward_four(p, y, chunk, stream);
  return launch(forward<T>, task_blocks(tasks), kTaskThreads, 0, stream, p, y, chunk, chunks, tasks);
}

template <class T>
cudaError_t conv_backward(const ConvProblem<T>& p, const ConvGradients<T>& g, int64_t chunk, cudaStream_t stream) {
  const int64_t chunks = ceil_divide(p.length, chunk), pixels = p.batch * chunks * p.channels;
  const int64_t states = p.batch * (p.taps - 1) * p.channels;
  cudaError_t error = cudaSuccess;
  if (g.dinitial_state && states > 0)
    error = launch(initial_gradients<T>, task_blocks(states), kTaskThreads, 0, stream, p, g, states);
  if (error != cudaSuccess || pixels == 0) return error;
  if constexpr (kHasFour<T>)
    if (p.taps == 4) return conv_backward_four(p, g, chunk, stream);
  const int64_t tasks = pixels * p.directions;
  error = launch(slopes<T>, task_blocks(tasks), kTaskThreads, 0, stream, p, g.dy, g.scratch, chunk, chunks, tasks);
  if (error == cudaSuccess)
    error = launch(input_gradients<T>, task_blocks(pixels), kTaskThreads, 0, stream, p, g, chunk, chunks, pixels);
  if (error == cudaSuccess && (g.dweight || g.dbias))
    error = launch(weight_gradients<T>, task_blocks(tasks), kTaskThreads, 0, stream, p, g, chunk, chunks, tasks);
  return error;
}

template <class T>
cudaError_t conv_update(const T* x, T* state, const MathType<T>* weight, const MathType<T>* bias, T* y, int64_t batch,
                        int64_t channels, int taps, bool silu, cudaStream_t stream) {
  const int64_t tasks = batch * channels;
  if (tasks == 0) return cudaSuccess;
  return launch(update<T>, task_blocks(tasks), kTaskThreads, 0, stream, x, state, weight, bias, y, channels, taps, silu,
                tasks);
}

#define INSTANTIATE(T)                                                                                              \
  template int64_t conv_scratch_size(const ConvProblem<T>&);                                                        \
  template cudaError_t conv_forward(const ConvProblem<T>&, T*, T*, int64_t, cudaStream_t);                          \
  template cudaError_t conv_backward(const ConvProblem<T>&, const ConvGradients<T>&, int64_t, cudaStream_t);        \
  template cudaError_t conv_update(const T*, T*, const MathType<T>*, const MathType<T>*, T*, int64_t, int64_t, int, \
                                   bool, cudaStream_t)

INSTANTIATE(float);
INSTANTIATE(double);
INSTANTIATE(__half);
INSTANTIATE(__nv_bfloat16);

}  // namespace vlmamba::cuda
