#pragma once

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// A batch of maps of `length` pixels in rows of `width`, read along `directions` orders (scan_order.h).
struct Maps {
  int64_t batch, length, channels;
  int directions, width;
};

/// sequences [B,K,L,D] = pixels [B,L,D] in the order of each direction.
template <class T>
cudaError_t cross_scan(const Maps& maps, const T* pixels, T* sequences, cudaStream_t stream);
/// The adjoint: summed over the directions in their order, rounded once.
template <class T>
cudaError_t cross_merge(const Maps& maps, const T* sequences, T* pixels, cudaStream_t stream);

}  // namespace vlmamba::cuda
