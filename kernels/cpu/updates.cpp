// One decoding step on the CPU, of the scan and of the convolution: tensors to the lane kernels, threads over channels.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/cpu/update_lanes.h"
#include "kernels/cpu/work.h"
#include "src/ops/causal_conv1d.h"
#include "src/ops/selective_state_update.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;
using ops::OptionalTensor;

Tensor selective_state_update(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                              const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool delta_softplus) {
  ops::check_selective_state_update(state, u, delta, A, B, C, D, z, delta_bias);
  const auto type = ops::math_type(u);
  const Tensor h = state.contiguous(), own_u = u.contiguous(), own_delta = delta.contiguous(), b = B.contiguous(),
               c = C.contiguous(), gate = contiguous(z), a = ops::in_math_type(A, type),
               skip = ops::in_math_type(D, type), bias = ops::in_math_type(delta_bias, type);
  const Tensor y = at::empty(u.sizes(), u.options());
  const int64_t channels = u.size(1), states = A.size(1), groups = B.size(1);
  const int64_t items = u.size(0) * blocks_per_group(channels, groups) * groups;
  with_storage(u.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    using T = Math<S>;
    const StateUpdate<S> problem{channels,
                                 states,
                                 groups,
                                 delta_softplus,
                                 mutable_stored<T>(h),
                                 stored<S>(own_u),
                                 stored<S>(own_delta),
                                 stored<T>(a),
                                 stored<S>(b),
                                 stored<S>(c),
                                 stored<T>(skip),
                                 stored<S>(gate),
                                 stored<T>(bias),
                                 mutable_stored<S>(y)};
    const auto kernel = fastest(baseline::update_state<S>, avx2::update_state<S>, avx512::update_state<S>);
    for_each_part(items, parts_of(items, kBlockChannels * states),
                  [&](int64_t, int64_t first, int64_t last) { kernel(problem, first, last); });
  });
  if (!h.is_same(state)) state.copy_(h);
  return y;
}

Tensor causal_conv1d_update(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                            c10::string_view activation) {
  ops::check_causal_conv1d_update(x, state, weight, bias, activation);
  const auto type = ops::math_type(x);
  const Tensor window = state.contiguous(), input = x.contiguous(), taps = ops::in_math_type(weight, type),
               own_bias = ops::in_math_type(bias, type);
  const Tensor y = at::empty(x.sizes(), x.options());
  const int64_t channels = x.size(1), items = x.size(0) * blocks_per_group(channels, 1);
  with_storage(x.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    using T = Math<S>;
    const ConvUpdate<S> problem{
        channels,        weight.size(1),      activation == "silu", stored<S>(input), mutable_stored<S>(window),
        stored<T>(taps), stored<T>(own_bias), mutable_stored<S>(y)};
    const auto kernel = fastest(baseline::update_conv<S>, avx2::update_conv<S>, avx512::update_conv<S>);
    for_each_part(items, parts_of(items, kBlockChannels * weight.size(1)),
                  [&](int64_t, int64_t first, int64_t last) { kernel(problem, first, last); });
  });
  if (!window.is_same(state)) state.copy_(window);
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("selective_state_update", selective_state_update);
  m.impl("causal_conv1d_update", causal_conv1d_update);
}

}  // namespace vlmamba::cpu
