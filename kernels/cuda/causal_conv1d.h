#pragma once

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// What the causal convolutions read. Contiguous; B rows of L pixels with D channels, K directions, W taps.
template <class T>
struct ConvProblem {
  int64_t batch, length, channels;  // length < 2^31
  int directions, taps, width;      // width: of the map, where there are several directions
  bool silu;
  const T* x;                       // [B,L,D]
  const MathType<T>*weight, *bias;  // [K,W,D] and [K,D]; bias may be null
  int64_t weight_step, bias_step;   // from one direction to the next: 0 where all share
  const T* initial_state;           // [B,W-1,D] or null
  const int32_t *seq_idx, *bounds;  // [B,L] and [B,2] (bounds_of_rows), or null
};

template <class T>
struct ConvGradients {
  const T *dy, *dfinal_state;   // [B,L,K,D]; [B,W-1,D] or null
  T *dx, *dinitial_state;       // [B,L,D]; [B,W-1,D] or null
  MathType<T>*dweight, *dbias;  // [R,K,W,D], [R,K,D]: to be summed over R = B * chunks; either may be null
  MathType<T>* scratch;         // conv_scratch_size elements
};

/// Steps that a thread takes: as many as leave work for the whole device.
int64_t conv_chunk(int64_t batch, int64_t length, int64_t channels, int multiprocessors);
/// Numbers that the backward needs beside its results.
template <class T>
int64_t conv_scratch_size(const ConvProblem<T>& problem);

/// bounds[b] = the first and the last position of a row that is not padding; L and -1 where there is none.
cudaError_t bounds_of_rows(const int32_t* seq_idx, int32_t* bounds, int64_t batch, int64_t length, cudaStream_t stream);

/// y [B,L,K,D]; final_state [B,W-1,D] or null.
template <class T>
cudaError_t conv_forward(const ConvProblem<T>& problem, T* y, T* final_state, int64_t chunk, cudaStream_t stream);
template <class T>
cudaError_t conv_backward(const ConvProblem<T>& problem, const ConvGradients<T>& gradients, int64_t chunk,
                          cudaStream_t stream);

/// The same for four taps, where threads keep the window of inputs in registers (causal_conv1d_four.cu). Float, half
/// and bfloat16.
template <class T>
cudaError_t conv_forward_four(const ConvProblem<T>& problem, T* y, int64_t chunk, cudaStream_t stream);
template <class T>
cudaError_t conv_backward_four(const ConvProblem<T>& problem, const ConvGradients<T>& gradients, int64_t chunk,
                               cudaStream_t stream);

/// One step of decoding: y, x [B,D]; state [B,W-1,D] is shifted in place; weight [W,D].
template <class T>
cudaError_t conv_update(const T* x, T* state, const MathType<T>* weight, const MathType<T>* bias, T* y, int64_t batch,
                        int64_t channels, int taps, bool silu, cudaStream_t stream);

}  // namespace vlmamba::cuda
