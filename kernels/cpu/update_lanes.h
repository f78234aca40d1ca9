#pragma once

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/storage.h"

// One decoding step of the scan and of the convolution on the CPU, without LibTorch: compiled once per instruction set
// (update_lanes.cpp), chosen at run time. Legend: B batch, D channels, N states, G groups, W taps. S: of the inputs.
// All tensors are contiguous. Work is counted in blocks of channels, row after row.

namespace vlmamba::cpu {

template <typename S>
struct StateUpdate {
  int64_t channels, states, groups;
  bool delta_softplus;
  Math<S>* state;             // [B, D, N]
  const S* u;                 // [B, D]
  const S* delta;             // [B, D]
  const Math<S>* a;           // [D, N]
  const S* b;                 // [B, G, N]
  const S* c;                 // [B, G, N]
  const Math<S>* skip;        // [D] or null: the op's D
  const S* z;                 // [B, D] or null
  const Math<S>* delta_bias;  // [D] or null
  S* y;                       // [B, D]
};

template <typename S>
struct ConvUpdate {
  int64_t channels, taps;
  bool silu;
  const S* x;             // [B, D]
  S* state;               // [B, W-1, D]
  const Math<S>* weight;  // [D, W]
  const Math<S>* bias;    // [D] or null
  S* y;                   // [B, D]
};

namespace baseline {
template <typename S>
void update_state(const StateUpdate<S>& p, int64_t first_block, int64_t last_block);
template <typename S>
void update_conv(const ConvUpdate<S>& p, int64_t first_block, int64_t last_block);
}  // namespace baseline
namespace avx2 {
template <typename S>
void update_state(const StateUpdate<S>& p, int64_t first_block, int64_t last_block);
template <typename S>
void update_conv(const ConvUpdate<S>& p, int64_t first_block, int64_t last_block);
}  // namespace avx2
namespace avx512 {
template <typename S>
void update_state(const StateUpdate<S>& p, int64_t first_block, int64_t last_block);
template <typename S>
void update_conv(const ConvUpdate<S>& p, int64_t first_block, int64_t last_block);
}  // namespace avx512

}  // namespace vlmamba::cpu
