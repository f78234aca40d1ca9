#pragma once

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// The pixel that direction k of `directions` (1: forward, 2: bidirectional, 4: cross) reads at step t of a map of
/// `length` pixels in rows of `width` (include/vlmamba/ops/scan_order.h).
__device__ __forceinline__ int64_t pixel_of_step(int k, int directions, int64_t t, int64_t length, int width) {
  const int direction = directions == 2 ? 2 * k : k;
  const int64_t step = direction < 2 ? t : length - 1 - t;
  if (direction % 2 == 0) return step;
  const unsigned height = static_cast<unsigned>(length) / static_cast<unsigned>(width);
  const unsigned column = static_cast<unsigned>(step) / height, row = static_cast<unsigned>(step) - column * height;
  return int64_t{row} * width + column;
}

/// Its inverse: the step at which direction k reads a pixel.
__device__ __forceinline__ int64_t step_of_pixel(int k, int directions, int64_t pixel, int64_t length, int width) {
  const int direction = directions == 2 ? 2 * k : k;
  int64_t step = pixel;
  if (direction % 2 == 1) {
    const unsigned height = static_cast<unsigned>(length) / static_cast<unsigned>(width);
    const unsigned row = static_cast<unsigned>(pixel) / static_cast<unsigned>(width);
    step = int64_t{static_cast<unsigned>(pixel) - row * static_cast<unsigned>(width)} * height + row;
  }
  return direction < 2 ? step : length - 1 - step;
}

}  // namespace vlmamba::cuda
