#pragma once

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// One step of the selective scan. Contiguous; null: not given.
template <class T>
struct StateUpdate {
  int64_t batch, channels, groups, states;
  bool softplus;
  MathType<T>* state;                    // [B,D,N], in place
  const T *u, *delta, *B, *C, *z;        // [B,D], [B,D], [B,G,N], [B,G,N], [B,D]
  const MathType<T>*A, *D, *delta_bias;  // [D,N], [D], [D]
  T* y;                                  // [B,D]
};

template <class T>
cudaError_t selective_state_update(const StateUpdate<T>& problem, cudaStream_t stream);

}  // namespace vlmamba::cuda
