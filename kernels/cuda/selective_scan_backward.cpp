// The gradients of selective_scan and selective_scan_2d on the GPU: tensors to kernels, a direction after another.
// Every sum has a fixed order.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <tuple>

#include "kernels/cuda/scan_inputs.h"
#include "kernels/cuda/state_slices.h"
#include "src/ops/scan_gradients.h"
#include "src/ops/selective_scan.h"

namespace vlmamba::cuda {
namespace {

using ops::Wanted;

// In the types of their inputs, of the small ones in the type of the arithmetic; sums over rows only where wanted.
using Gradients = ops::ScanGradientTensors;

// Sums of the parts that the blocks of a direction leave behind.
struct Parts {
  Tensor dB, dC, dA, dD, dbias;  // [P, B, L, G, N] twice, [B, S, D, N], [B, S, D] twice

  Parts(const ScanInputs& in, const Gradients& g, int64_t segments, int64_t block_channels) {
    const int64_t parts = (in.channels() / in.groups() + block_channels - 1) / block_channels;
    dB = at::empty({parts, in.batch(), in.length(), in.groups(), in.states()}, in.math());
    dC = at::empty_like(dB);
    if (g.dA.defined()) dA = in.state_planes(segments);
    if (g.dD.defined()) dD = at::empty({in.batch(), segments, in.channels()}, in.math());
    if (g.dbias.defined()) dbias = at::empty({in.batch(), segments, in.channels()}, in.math());
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
  const Parts parts(in, g, pieces.segments, block_channels);
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

Gradients backward(const ScanInputs& in, const Tensor& dy, const OptionalTensor& dfinal, const Wanted<9>& wanted,
                   cudaStream_t stream) {
  const auto like = [](bool wanted, const Tensor& tensor) {
    return wanted && tensor.defined() ? at::zeros(tensor.sizes(), tensor.options()) : Tensor();
  };
  Gradients g;
  g.du = at::empty(in.u.sizes(), in.u.options());
  g.ddelta = at::empty(in.delta.sizes(), in.u.options());
  g.dB = at::empty(in.B.sizes(), in.u.options());
  g.dC = at::empty(in.C.sizes(), in.u.options());
  if (in.z.defined()) g.dz = at::empty(in.z.sizes(), in.u.options());
  g.dA = like(wanted[2], in.A);
  g.dD = like(wanted[5], in.D);
  g.dbias = like(wanted[7], in.delta_bias);
  g.dinitial = like(wanted[8], in.initial_state);
  const Tensor dstate = dfinal ? dfinal->contiguous() : Tensor();
  if (in.empty()) {
    if (g.dinitial.defined() && dstate.defined()) g.dinitial.copy_(dstate);
    return g;
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, in.u.scalar_type(), "selective_scan_backward",
                                  [&] { run_backward<scalar_t>(in, g, by_rows(dy), dstate, stream); });
  return g;
}

Tensor as(const OptionalTensor& input, const Tensor& gradient) {
  return input ? gradient.to(input->scalar_type()) : gradient;
}

ops::ScanGradientTuple selective_scan_backward(const Tensor& dy, const OptionalTensor& dfinal, const Tensor& u,
                                               const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                                               const OptionalTensor& D, const OptionalTensor& z,
                                               const OptionalTensor& delta_bias, bool delta_softplus,
                                               const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                               Wanted<9> wanted) {
  ops::check_selective_scan_backward(dy, dfinal, u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  if (A.size(-1) > kMaxStates) {
    constexpr auto kSum = OverStates::kSum, kJoin = OverStates::kJoin, kFirst = OverStates::kFirst;
    const auto [du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial] =
        by_slices<9>(A.size(-1), ops::math_type(u), {kSum, kSum, kJoin, kJoin, kJoin, kFirst, kSum, kSum, kJoin},
                     [&](const StateSlice& s) {
                       return selective_scan_backward(s.wide(dy), s.of(dfinal), s.wide(u), s.wide(delta), s.of(A),
                                                      s.of(B), s.of(C), s.once(D), s.wide(z), s.wide(delta_bias),
                                                      delta_softplus, s.of(initial_state), seq_idx, wanted);
                     });
    const auto type = u.scalar_type();
    return {du.to(type), ddelta.to(type), dA.to(A.scalar_type()), dB.to(type), dC.to(type),
            as(D, dD),   dz.to(type),     as(delta_bias, dbias),  dinitial};
  }
  const DeviceScope device(u);
  const auto in = inputs_1d("selective_scan", u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state,
                            seq_idx, device.stream());
  return ops::like_arguments(backward(in, dy, dfinal, wanted, device.stream()), wanted, u, delta, A, B, C, D, z,
                             delta_bias, initial_state);
}

ops::Scan2dGradientTuple selective_scan_2d_backward(const Tensor& dy, const Tensor& u, const Tensor& delta,
                                                    const Tensor& A, const Tensor& B, const Tensor& C,
                                                    const OptionalTensor& D, const OptionalTensor& delta_bias,
                                                    bool delta_softplus, c10::string_view scan, int64_t height,
                                                    int64_t width, bool merge, Wanted<7> wanted) {
  ops::check_selective_scan_2d_backward(dy, u, delta, A, B, C, D, delta_bias, scan, height, width, merge);
  if (A.size(-1) > kMaxStates) {
    constexpr auto kSum = OverStates::kSum, kJoin = OverStates::kJoin, kFirst = OverStates::kFirst;
    const auto [du, ddelta, dA, dB, dC, dD, dbias] = by_slices<7>(
        A.size(-1), ops::math_type(u), {kSum, kSum, kJoin, kJoin, kJoin, kFirst, kSum}, [&](const StateSlice& s) {
          return selective_scan_2d_backward(s.wide(dy), s.wide(u), s.wide(delta), s.of(A), s.of(B), s.of(C), s.once(D),
                                            s.wide(delta_bias), delta_softplus, scan, height, width, merge, wanted);
        });
    const auto type = u.scalar_type();
    return {du.to(type), ddelta.to(type), dA.to(A.scalar_type()), dB.to(type),
            dC.to(type), as(D, dD),       as(delta_bias, dbias)};
  }
  const DeviceScope device(u);
  const auto in =
      inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge, device.stream());
  return ops::like_arguments(backward(in, dy, {}, ops::wanted_of_2d(wanted), device.stream()), wanted, u, delta, A, B,
                             C, D, delta_bias);
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("selective_scan_backward", selective_scan_backward);
  m.impl("selective_scan_2d_backward", selective_scan_2d_backward);
}

}  // namespace vlmamba::cuda
