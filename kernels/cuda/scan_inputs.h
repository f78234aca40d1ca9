#pragma once

// What the adapters of the scans and of their backward share: tensors to the kernels' arguments, and how the work is
// cut. Everything is divided by shape and by the device's size alone: results are the same from run to run.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/cuda/selective_scan.h"
#include "kernels/cuda/tensors.h"
#include "src/ops/check.h"

namespace vlmamba::cuda {

using at::Tensor;
using ops::OptionalTensor;

// The device's name for T.
template <typename T>
using Device = std::remove_cvref_t<decltype(*device_data<T>(std::declval<Tensor>()))>;

inline Tensor by_rows(const Tensor& tensor) { return tensor.stride(-1) == 1 ? tensor : tensor.contiguous(); }
inline Tensor by_rows(const OptionalTensor& tensor) { return tensor ? by_rows(*tensor) : Tensor(); }

// Rows of a tensor [B, L, (K,) (G,) D or N]; undefined tensors have none.
template <typename T>
auto rows_of(const Tensor& tensor, bool directions, bool groups) {
  using Element = std::conditional_t<std::is_const_v<T>, const Device<std::remove_const_t<T>>, Device<T>>;
  if (!tensor.defined()) return Rows<Element>{};
  Rows<Element> rows{nullptr, tensor.stride(0), tensor.stride(1), directions ? tensor.stride(2) : 0,
                     groups ? tensor.stride(-2) : 0};
  if constexpr (std::is_const_v<T>) {
    rows.data = device_data<std::remove_const_t<T>>(tensor);
  } else {
    rows.data = mutable_device_data<T>(tensor);
  }
  return rows;
}

// What both scans have become: large tensors with rows of stride 1, small ones contiguous in the type of the
// arithmetic. Undefined where not given.
struct ScanInputs {
  Tensor u, delta, A, B, C, D, z, delta_bias, initial_state, step;
  int64_t directions = 1, height = 1, width = 1;
  bool every_other = false, delta_softplus = false, merge = true, two_dimensional = false;

  int64_t batch() const { return u.size(0); }
  int64_t length() const { return u.size(1); }
  int64_t channels() const { return u.size(-1); }
  int64_t groups() const { return B.size(-2); }
  int64_t states() const { return A.size(-1); }
  int64_t tiles() const { return (length() + kScanTile - 1) / kScanTile; }
  bool u_per_direction() const { return u.dim() == 4; }
  bool empty() const { return batch() == 0 || length() == 0 || channels() == 0; }
  at::TensorOptions math() const { return A.options(); }
  Tensor state_planes(int64_t count) const { return at::empty({batch(), count, channels(), states()}, math()); }

  template <typename T>
  auto problem() const {
    using Math = MathType<T>;
    return ScanProblem<Device<T>>{
        batch(),
        length(),
        directions,
        channels(),
        states(),
        groups(),
        height,
        width,
        every_other,
        delta_softplus,
        step.defined() ? reinterpret_cast<const StepKind*>(step.const_data_ptr<int8_t>()) : nullptr,
        rows_of<const T>(u, u_per_direction(), false),
        rows_of<const T>(delta, two_dimensional, false),
        rows_of<const T>(B, two_dimensional, true),
        rows_of<const T>(C, two_dimensional, true),
        rows_of<const T>(z, false, false),
        device_data<Math>(A),
        device_data<Math>(D),
        device_data<Math>(delta_bias)};
  }
};

inline ScanInputs inputs_1d(const char* op, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                            const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                            const OptionalTensor& delta_bias, bool delta_softplus, const OptionalTensor& initial_state,
                            const OptionalTensor& seq_idx, cudaStream_t stream) {
  TORCH_CHECK(u.size(1) <= std::numeric_limits<int32_t>::max(), "[", op,
              "] u: expected fewer than 2^31 positions on the GPU, got ", u.size(1));
  const auto type = ops::math_type(u);
  ScanInputs in{by_rows(u),
                by_rows(delta),
                ops::in_math_type(A, type),
                by_rows(B),
                by_rows(C),
                ops::in_math_type(D, type),
                by_rows(z),
                ops::in_math_type(delta_bias, type),
                ops::in_math_type(initial_state, type),
                {}};
  in.width = u.size(1);
  in.delta_softplus = delta_softplus;
  if (seq_idx && !in.empty()) {
    const Tensor ids = seq_idx->contiguous();
    in.step = at::empty(ids.sizes(), ids.options().dtype(at::kChar));
    check(step_kinds(ids.const_data_ptr<int32_t>(), ids.size(0), ids.size(1),
                     reinterpret_cast<StepKind*>(in.step.mutable_data_ptr<int8_t>()), stream));
  }
  return in;
}

inline ScanInputs inputs_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                            const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                            c10::string_view scan, int64_t height, int64_t width, bool merge, cudaStream_t stream) {
  ScanInputs in = inputs_1d("selective_scan_2d", u, delta, A, B, C, D, {}, delta_bias, delta_softplus, {}, {}, stream);
  in.directions = delta.size(2);
  in.height = height;
  in.width = width;
  in.every_other = scan == "bidirectional";
  in.merge = merge;
  in.two_dimensional = true;
  return in;
}

// How a sequence is cut where its blocks are fewer than the device could run: into segments of whole tiles. Costs a
// second walk over the states, so that a few segments gain nothing.
struct Cut {
  int64_t segments = 1, length = 0;
};
inline Cut cut(const ScanInputs& in, int64_t block_channels) {
  constexpr int64_t kBlocksPerProcessor = 2, kLeastTiles = 4, kLeastSegments = 3;
  const int64_t blocks =
      in.batch() * in.groups() * ((in.channels() / in.groups() + block_channels - 1) / block_channels);
  const int64_t wanted =
      std::min(kBlocksPerProcessor * multiprocessors() / std::max<int64_t>(blocks, 1), in.tiles() / kLeastTiles);
  if (wanted < kLeastSegments) return {1, in.length()};
  const int64_t tiles = (in.tiles() + wanted - 1) / wanted;
  return {(in.tiles() + tiles - 1) / tiles, tiles * kScanTile};
}

// The state before each segment [B, S, D, N], or with kAdjoint the gradient from behind it. `first` is that of the
// whole row, or undefined; `last` receives what leaves the row, or is undefined.
template <typename T>
Tensor segment_states(const ScanInputs& in, ScanPass pass, int64_t k, const Cut& pieces, const Tensor& dy,
                      const Tensor& first, const Tensor& last, cudaStream_t stream) {
  using Math = MathType<T>;
  if (pieces.segments == 1) return first;
  const Tensor start = in.state_planes(pieces.segments), end = in.state_planes(pieces.segments);
  const Tensor delta_sum = at::empty({in.batch(), pieces.segments, in.channels()}, in.math());
  const Tensor resets = at::empty({in.batch(), pieces.segments}, in.math().dtype(at::kBool));
  ScanWalk<Device<T>> walk{};
  walk.pass = pass;
  walk.first_direction = k;
  walk.last_direction = k + 1;
  walk.segments = pieces.segments;
  walk.segment_length = pieces.length;
  walk.end = mutable_device_data<Math>(end);
  walk.delta_sum = mutable_device_data<Math>(delta_sum);
  walk.resets = resets.mutable_data_ptr<bool>();
  walk.dy = rows_of<const T>(dy, !in.merge, false);
  check(scan_walk(in.problem<T>(), walk, stream));
  const ScanChain<Math> chain{in.batch(),
                              pieces.segments,
                              in.channels(),
                              in.states(),
                              pass == ScanPass::kAdjoint,
                              device_data<Math>(in.A) + k * in.channels() * in.states(),
                              device_data<Math>(delta_sum),
                              device_data<Math>(end),
                              walk.resets,
                              device_data<Math>(first),
                              mutable_device_data<Math>(start),
                              mutable_device_data<Math>(last)};
  check(scan_chain(chain, stream));
  return start;
}

}  // namespace vlmamba::cuda
