#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

// The selective scans on the GPU, without LibTorch: kernels and how they are launched. selective_scan.cpp gives them
// tensors.
//
// Legend: B batch, L positions (pixels or tokens), K scan directions, D channels, N states, G groups, S segments that a
// sequence is cut into where B and D alone are too little work. The 1-D scan is K = 1 in row-major order.

namespace vlmamba::cuda {

constexpr int64_t kMaxStates = 256;

// What happens at a position of a row: it goes on from what was before it, starts a run with nothing before it, or is
// padding. The first run of a row goes on from the initial state.
enum class StepKind : int8_t { kGoOn, kReset, kPadding };

// Rows of channels (or states) that lie one after another; counted in elements.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t row = 0, position = 0, direction = 0, group = 0;  // strides of B, L, K and G
};

template <typename T>
struct ScanProblem {
  using Math = MathType<T>;
  int64_t batch, length, directions, channels, states, groups;
  int64_t height, width;  // of the map; length = height * width
  bool every_other;       // the directions are 0 and 2 (bidirectional), not 0 .. K-1
  bool delta_softplus;
  const StepKind* step;    // [B, L] or null: no run boundaries
  Rows<const T> u;         // [B, L, K or 1, D]
  Rows<const T> delta;     // [B, L, K, D]
  Rows<const T> b, c;      // [B, L, K, G, N]
  Rows<const T> z;         // [B, L, D] or null
  const Math* a;           // [K, D, N]
  const Math* skip;        // [K, D] or null: the op's D
  const Math* delta_bias;  // [K, D] or null
};

// What one launch does of a scan.
enum class ScanPass {
  kOutputs,  // y, from the states at the start of each segment
  kStates,   // only the states
  kAdjoint   // backwards through time: the gradient that each segment passes to what is before it
};

template <typename T>
struct ScanWalk {
  using Math = MathType<T>;
  ScanPass pass;
  int64_t first_direction, last_direction;  // [first, last)
  int64_t segments, segment_length;         // a multiple of kScanTile, unless there is one segment
  const Math* start;  // [B, S, D, N] or null: the state before a segment (kAdjoint: the gradient from behind it)
  Math* end;          // [B, S, D, N] or null: the state after it
  Math* delta_sum;    // [B, S, D] or null: the sum of its time steps
  bool* resets;       // [B, S] or null: whether a run starts in it
  Math* saved;        // [B, ceil(L / kScanTile), D, N] or null: the states before every tile
  Rows<T> y;          // [B, L, K or 1, D]
  Math* sum;          // [B, L, D] or null: y of the directions so far; null: every direction has its own y
  Rows<const T> dy;   // like y, for kAdjoint
};

template <typename T>
struct ScanBackward {
  using Math = MathType<T>;
  int64_t direction;
  int64_t segments, segment_length;
  const Math* saved;   // [B, ceil(L / kScanTile), D, N]
  const Math* dend;    // [B, S, D, N] or null: the gradient that comes from behind a segment
  Math* dstart;        // [B, D, N] or null: the gradient that leaves the first segment
  Rows<const T> dy;    // [B, L, K or 1, D]
  Rows<T> du, ddelta;  // like u and delta
  Math* du_sum;        // [B, L, D] or null: du of the directions so far
  Rows<T> dz;          // like z or null
  Math* db;            // [P, B, L, G, N]: a part for each of the P blocks of a group's channels
  Math* dc;            // the same
  Math* da;            // [B, S, D, N] or null: a part for each segment of each row
  Math* dskip;         // [B, S, D] or null
  Math* ddelta_bias;   // [B, S, D] or null
};

constexpr int kScanTile = 24;  // steps that a block holds at a time, and between two states that the backward keeps

// Channels of the blocks of scan_walk and scan_backward: with fewer blocks than processors it pays to cut L.
template <typename T>
int64_t walk_block_channels(int64_t states);
template <typename T>
int64_t backward_block_channels(int64_t states);

template <typename T>
cudaError_t scan_walk(const ScanProblem<T>& problem, const ScanWalk<T>& walk, cudaStream_t stream);
template <typename T>
cudaError_t scan_backward(const ScanProblem<T>& problem, const ScanBackward<T>& backward, cudaStream_t stream);

// Turns the state that every segment adds (end) into the state that it starts from. first [B, D, N] or null is the
// state before the first segment of all; last, or null, receives the state after the last. reversed: from the last
// segment to the first.
template <typename Math>
struct ScanChain {
  int64_t batch, segments, channels, states;
  bool reversed;
  const Math *a, *delta_sum, *end;  // a [D, N]
  const bool* resets;               // [B, S] or null
  const Math* first;
  Math *start, *last;
};
template <typename Math>
cudaError_t scan_chain(const ScanChain<Math>& chain, cudaStream_t stream);

// The sum of `parts` arrays in their order: out[i / run * stride + i % run] = sum over p of in[p * size + i].
template <typename Math, typename T>
cudaError_t sum_parts(const Math* in, int64_t parts, int64_t size, T* out, int64_t run, int64_t stride,
                      cudaStream_t stream);

// step [B, L] from seq_idx [B, L].
cudaError_t step_kinds(const int32_t* seq_idx, int64_t batch, int64_t length, StepKind* step, cudaStream_t stream);

}  // namespace vlmamba::cuda
