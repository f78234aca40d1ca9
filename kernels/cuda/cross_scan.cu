// cross_scan and cross_merge. Channels are last, so that whole rows of them move, whatever the order of the pixels.

#include "kernels/cuda/cross_scan.h"
#include "kernels/cuda/scan_order.h"
#include "kernels/cuda/tasks.h"
#include "kernels/cuda/vector.h"

namespace vlmamba::cuda {
namespace {

template <class T>
constexpr int kVector = 16 / sizeof(T);

// Tasks: (row, direction, step, channels).
template <class T, int kWidth>
__global__ __launch_bounds__(kTaskThreads) void scan(Maps maps, const T* pixels, T* sequences, int64_t tasks) {
  const int64_t vectors = maps.channels / kWidth;
  for (int64_t task = first_task(); task < tasks; task += task_stride()) {
    const int64_t position = task / vectors, t = position % maps.length, sequence = position / maps.length;
    const int k = static_cast<int>(sequence % maps.directions);
    const int64_t pixel = pixel_of_step(k, maps.directions, t, maps.length, maps.width);
    const int64_t from = (sequence / maps.directions * maps.length + pixel) * vectors + task % vectors;
    reinterpret_cast<Pack<T, kWidth>*>(sequences)[task] = reinterpret_cast<const Pack<T, kWidth>*>(pixels)[from];
  }
}

// Tasks: (row, pixel, channels).
template <class T, int kWidth>
__global__ __launch_bounds__(kTaskThreads) void merge(Maps maps, const T* sequences, T* pixels, int64_t tasks) {
  using Math = MathType<T>;
  const int64_t vectors = maps.channels / kWidth;
  for (int64_t task = first_task(); task < tasks; task += task_stride()) {
    const int64_t position = task / vectors, pixel = position % maps.length, row = position / maps.length;
    Math sum[kWidth], value[kWidth];
    fill(sum, Math(0));
    for (int k = 0; k < maps.directions; ++k) {
      const int64_t t = step_of_pixel(k, maps.directions, pixel, maps.length, maps.width);
      const int64_t step = (row * maps.directions + k) * maps.length + t;
      load(sequences + (step * vectors + task % vectors) * kWidth, value);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += value[i];
    }
    store(pixels + task * kWidth, sum);
  }
}

}  // namespace

template <class T>
cudaError_t cross_scan(const Maps& maps, const T* pixels, T* sequences, cudaStream_t stream) {
  const int64_t tasks = maps.batch * maps.directions * maps.length * maps.channels;
  if (tasks == 0) return cudaSuccess;
  if (fits_vectors(kVector<T>, sizeof(T), maps.channels, {pixels, sequences}))
    return launch(scan<T, kVector<T>>, task_blocks(tasks / kVector<T>), kTaskThreads, 0, stream, maps, pixels,
                  sequences, tasks / kVector<T>);
  return launch(scan<T, 1>, task_blocks(tasks), kTaskThreads, 0, stream, maps, pixels, sequences, tasks);
}

template <class T>
cudaError_t cross_merge(const Maps& maps, const T* sequences, T* pixels, cudaStream_t stream) {
  const int64_t tasks = maps.batch * maps.length * maps.channels;
  if (tasks == 0) return cudaSuccess;
  if (fits_vectors(kVector<T>, sizeof(T), maps.channels, {pixels, sequences}))
    return launch(merge<T, kVector<T>>, task_blocks(tasks / kVector<T>), kTaskThreads, 0, stream, maps, sequences,
                  pixels, tasks / kVector<T>);
  return launch(merge<T, 1>, task_blocks(tasks), kTaskThreads, 0, stream, maps, sequences, pixels, tasks);
}

#define INSTANTIATE(T)                                                      \
  template cudaError_t cross_scan(const Maps&, const T*, T*, cudaStream_t); \
  template cudaError_t cross_merge(const Maps&, const T*, T*, cudaStream_t)

INSTANTIATE(float);
INSTANTIATE(double);
INSTANTIATE(__half);
INSTANTIATE(__nv_bfloat16);

}  // namespace vlmamba::cuda
