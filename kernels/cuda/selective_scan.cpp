// selective_scan and selective_scan_2d on the GPU: tensors to kernels.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "src/ops/selective_scan.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <tuple>

#include "kernels/cuda/scan_inputs.h"
#include "kernels/cuda/state_slices.h"

namespace vlmamba::cuda {
namespace {

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
  if (A.size(-1) > kMaxStates) {
    const auto [y, state] =
        by_slices<2>(A.size(-1), ops::math_type(u), {OverStates::kSum, OverStates::kJoin}, [&](const StateSlice& s) {
          return selective_scan(s.wide(u), s.wide(delta), s.of(A), s.of(B), s.of(C), s.once(D), s.wide(z),
                                s.wide(delta_bias), delta_softplus, s.of(initial_state), seq_idx);
        });
    return {y.to(u.scalar_type()), state};
  }
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
  if (A.size(-1) > kMaxStates)
    return by_slices<1>(
               A.size(-1), ops::math_type(u), {OverStates::kSum},
               [&](const StateSlice& s) {
                 return std::tuple(selective_scan_2d(s.wide(u), s.wide(delta), s.of(A), s.of(B), s.of(C), s.once(D),
                                                     s.wide(delta_bias), delta_softplus, scan, height, width, merge));
               })[0]
        .to(u.scalar_type());
  const DeviceScope device(u);
  return forward(
      inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge, device.stream()),
      Tensor(), device.stream());
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("selective_scan", selective_scan);
  m.impl("selective_scan_2d", selective_scan_2d);
}

}  // namespace vlmamba::cuda
