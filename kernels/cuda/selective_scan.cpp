// selective_scan and selective_scan_2d on the GPU: tensors to kernels, and how the work is cut. Everything is divided
// by shape and by the device's size alone, and every sum has a fixed order: results are the same from run to run.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "kernels/cuda/selective_scan.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/cuda/tensors.h"
#include "src/ops/check.h"
#include "src/ops/selective_scan.h"

namespace vlmamba::cuda {
namespace {

using at::Tensor;
using ops::OptionalTensor;

// The device's name for T.
template <typename T>
using Device = std::remove_cvref_t<decltype(*device_data<T>(std::declval<Tensor>()))>;

Tensor by_rows(const Tensor& tensor) { return tensor.stride(-1) == 1 ? tensor : tensor.contiguous(); }
Tensor by_rows(const OptionalTensor& tensor) { return tensor ? by_rows(*tensor) : Tensor(); }

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

ScanInputs inputs_1d(const char* op, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                     const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                     const OptionalTensor& delta_bias, bool delta_softplus, const OptionalTensor& initial_state,
                     const OptionalTensor& seq_idx, cudaStream_t stream) {
  TORCH_CHECK(A.size(-1) <= kMaxStates, "[", op, "] A: expected at most ", kMaxStates, " states on the GPU, got ",
              A.size(-1));
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

ScanInputs inputs_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
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
Cut cut(const ScanInputs& in, int64_t block_channels) {
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

// y, [B, L, (K,) D], and for the 1-D scan the final state.
template <typename T>
void run_forward(const ScanInputs& in, const Tensor& y, const Tensor& final_state, cudaStream_t stream) {
  using Math = MathType<T>;
  const auto problem = in.problem<T>();
  const Cut pieces = cut(in, walk_block_channels<Device<T>>(in.states()));
  Tensor sum;
  if (in.merge && in.directions > 1) sum = y.scalar_type() == in.A.scalar_type() ? y : at::empty(y.sizes(), in.math());
  const int64_t together = pieces.segments == 1 ? in.directions : 1;  // segments of directions share pixels
  for (int64_t k = 0; k < in.directions; k += together) {
    const Tensor start = segment_states<T>(in, ScanPass::kStates, k, pieces, {}, in.initial_state, final_state, stream);
    ScanWalk<Device<T>> walk{};
    walk.pass = ScanPass::kOutputs;
    walk.first_direction = k;
    walk.last_direction = k + together;
    walk.segments = pieces.segments;
    walk.segment_length = pieces.length;
    walk.start = device_data<Math>(start);
    if (pieces.segments == 1) walk.end = mutable_device_data<Math>(final_state);
    walk.y = rows_of<T>(y, !in.merge, false);
    walk.sum = mutable_device_data<Math>(sum);
    check(scan_walk(problem, walk, stream));
  }
}

Tensor forward(const ScanInputs& in, const Tensor& final_state, cudaStream_t stream) {
  const Tensor y = in.merge ? at::empty({in.batch(), in.length(), in.channels()}, in.u.options())
                            : at::empty(in.delta.sizes(), in.u.options());
  if (!in.empty())
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, in.u.scalar_type(), "selective_scan",
                                    [&] { run_forward<scalar_t>(in, y, final_state, stream); });
  return y;
}

std::tuple<Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                          const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                          const OptionalTensor& delta_bias, bool delta_softplus,
                                          const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  ops::check_selective_scan(u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  const DeviceScope device(u);
  const auto in = inputs_1d("selective_scan", u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state,
                            seq_idx, device.stream());
  Tensor final_state = at::empty({in.batch(), in.channels(), in.states()}, in.math());
  if (in.empty()) {
    if (initial_state)
      final_state.copy_(*initial_state);
    else
      final_state.zero_();
  }
  const Tensor y = forward(in, final_state, device.stream());
  return {y, final_state};
}

Tensor selective_scan_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                         const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                         c10::string_view scan, int64_t height, int64_t width, bool merge) {
  ops::check_selective_scan_2d(u, delta, A, B, C, D, delta_bias, scan, height, width);
  const DeviceScope device(u);
  return forward(
      inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge, device.stream()),
      Tensor(), device.stream());
}

// The gradients in the types of their inputs; undefined where there was no input.
struct Gradients {
  Tensor du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial;
};

// Sums of the parts that the blocks of a direction leave behind.
struct Parts {
  Tensor dB, dC, dA, dD, dbias;  // [P, B, L, G, N] twice, [B, S, D, N], [B, S, D] twice

  Parts(const ScanInputs& in, int64_t segments, int64_t block_channels) {
    const int64_t parts = (in.channels() / in.groups() + block_channels - 1) / block_channels;
    dB = at::empty({parts, in.batch(), in.length(), in.groups(), in.states()}, in.math());
    dC = at::empty_like(dB);
    dA = in.state_planes(segments);
    if (in.D.defined()) dD = at::empty({in.batch(), segments, in.channels()}, in.math());
    if (in.delta_bias.defined()) dbias = at::empty({in.batch(), segments, in.channels()}, in.math());
  }
};

// Adds the parts of direction k: `size` sums, in runs that lie `stride` apart in `out`.
template <typename T>
void add_parts(const Tensor& parts, int64_t count, const Tensor& out, int64_t run, int64_t stride, int64_t k,
               cudaStream_t stream) {
  if (!parts.defined()) return;
  check(sum_parts<MathType<T>, Device<T>>(device_data<MathType<T>>(parts), count, parts.numel() / count,
                                          mutable_device_data<T>(out) + k * run, run, stride, stream));
}

template <typename T>
void run_direction(const ScanInputs& in, const Gradients& g, const Tensor& dy, const Tensor& dfinal,
                   const Tensor& du_sum, int64_t k, cudaStream_t stream) {
  using Math = MathType<T>;
  const auto problem = in.problem<T>();
  const int64_t block_channels = backward_block_channels<Device<T>>(in.states());
  const Cut pieces = cut(in, block_channels);
  const Tensor saved = in.state_planes(in.tiles());
  ScanWalk<Device<T>> walk{};
  walk.pass = ScanPass::kStates;
  walk.first_direction = k;
  walk.last_direction = k + 1;
  walk.segments = pieces.segments;
  walk.segment_length = pieces.length;
  const Tensor start = segment_states<T>(in, ScanPass::kStates, k, pieces, {}, in.initial_state, Tensor(), stream);
  walk.start = device_data<Math>(start);
  walk.saved = mutable_device_data<Math>(saved);
  check(scan_walk(problem, walk, stream));

  const Tensor dend = segment_states<T>(in, ScanPass::kAdjoint, k, pieces, dy, dfinal, Tensor(), stream);
  const Parts parts(in, pieces.segments, block_channels);
  ScanBackward<Device<T>> backward{};
  backward.direction = k;
  backward.segments = pieces.segments;
  backward.segment_length = pieces.length;
  backward.saved = walk.saved;
  backward.dend = device_data<Math>(dend);
  backward.dstart = mutable_device_data<Math>(g.dinitial);
  backward.dy = rows_of<const T>(dy, !in.merge, false);
  backward.du = rows_of<T>(g.du, in.u_per_direction(), false);
  backward.ddelta = rows_of<T>(g.ddelta, in.two_dimensional, false);
  backward.du_sum = mutable_device_data<Math>(du_sum);
  backward.dz = rows_of<T>(g.dz, false, false);
  backward.db = mutable_device_data<Math>(parts.dB);
  backward.dc = mutable_device_data<Math>(parts.dC);
  backward.da = mutable_device_data<Math>(parts.dA);
  backward.dskip = mutable_device_data<Math>(parts.dD);
  backward.ddelta_bias = mutable_device_data<Math>(parts.dbias);
  check(scan_backward(problem, backward, stream));

  const int64_t row = in.groups() * in.states(), lines = in.batch() * pieces.segments;
  add_parts<T>(parts.dB, parts.dB.size(0), g.dB, row, in.directions * row, k, stream);
  add_parts<T>(parts.dC, parts.dC.size(0), g.dC, row, in.directions * row, k, stream);
  const int64_t plane = in.channels() * in.states();
  add_parts<Math>(parts.dA, lines, g.dA, plane, plane, k, stream);
  add_parts<Math>(parts.dD, lines, g.dD, in.channels(), in.channels(), k, stream);
  add_parts<Math>(parts.dbias, lines, g.dbias, in.channels(), in.channels(), k, stream);
}

template <typename T>
void run_backward(const ScanInputs& in, const Gradients& g, const Tensor& dy, const Tensor& dfinal,
                  cudaStream_t stream) {
  Tensor du_sum;
  if (!in.u_per_direction() && in.directions > 1)
    du_sum = g.du.scalar_type() == in.A.scalar_type() ? g.du : at::empty(g.du.sizes(), in.math());
  for (int64_t k = 0; k < in.directions; ++k) run_direction<T>(in, g, dy, dfinal, du_sum, k, stream);
}

Gradients backward(const ScanInputs& in, const Tensor& dy, const OptionalTensor& dfinal, cudaStream_t stream) {
  const auto like = [](const Tensor& tensor) {
    return tensor.defined() ? at::zeros(tensor.sizes(), tensor.options()) : Tensor();
  };
  Gradients g;
  g.du = at::empty(in.u.sizes(), in.u.options());
  g.ddelta = at::empty(in.delta.sizes(), in.u.options());
  g.dB = at::empty(in.B.sizes(), in.u.options());
  g.dC = at::empty(in.C.sizes(), in.u.options());
  if (in.z.defined()) g.dz = at::empty(in.z.sizes(), in.u.options());
  g.dA = like(in.A);
  g.dD = like(in.D);
  g.dbias = like(in.delta_bias);
  g.dinitial = like(in.initial_state);
  const Tensor dstate = dfinal ? dfinal->contiguous() : Tensor();
  if (in.empty()) {
    if (g.dinitial.defined() && dstate.defined()) g.dinitial.copy_(dstate);
    return g;
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, in.u.scalar_type(), "selective_scan_backward",
                                  [&] { run_backward<scalar_t>(in, g, by_rows(dy), dstate, stream); });
  return g;
}

// A gradient as its input wants it; empty where there was no input.
Tensor given(const Tensor& gradient, const OptionalTensor& input, const Tensor& u) {
  return input ? gradient.to(input->scalar_type()) : at::empty({0}, u.options());
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& dy, const OptionalTensor& dfinal, const Tensor& u, const Tensor& delta, const Tensor& A,
    const Tensor& B, const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
    const OptionalTensor& delta_bias, bool delta_softplus, const OptionalTensor& initial_state,
    const OptionalTensor& seq_idx) {
  ops::check_selective_scan_backward(dy, dfinal, u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  const DeviceScope device(u);
  const auto in = inputs_1d("selective_scan", u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state,
                            seq_idx, device.stream());
  const auto g = backward(in, dy, dfinal, device.stream());
  return {g.du,
          g.ddelta,
          g.dA.to(A.scalar_type()),
          g.dB,
          g.dC,
          given(g.dD, D, u),
          given(g.dz, z, u),
          given(g.dbias, delta_bias, u),
          given(g.dinitial, initial_state, u)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_2d_backward(
    const Tensor& dy, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
    const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus, c10::string_view scan,
    int64_t height, int64_t width, bool merge) {
  ops::check_selective_scan_2d_backward(dy, u, delta, A, B, C, D, delta_bias, scan, height, width, merge);
  const DeviceScope device(u);
  const auto in =
      inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge, device.stream());
  const auto g = backward(in, dy, {}, device.stream());
  return {g.du, g.ddelta, g.dA.to(A.scalar_type()), g.dB, g.dC, given(g.dD, D, u), given(g.dbias, delta_bias, u)};
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("selective_scan", selective_scan);
  m.impl("selective_scan_2d", selective_scan_2d);
  m.impl("selective_scan_backward", selective_scan_backward);
  m.impl("selective_scan_2d_backward", selective_scan_2d_backward);
}

}  // namespace vlmamba::cuda
