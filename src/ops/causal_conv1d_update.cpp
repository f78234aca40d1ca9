// One decoding step of the convolution as the dispatcher sees it: schema, checks and shapes. It has no gradient.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "src/ops/autograd.h"
#include "src/ops/causal_conv1d.h"
#include "vlmamba/ops/causal_conv1d.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;

Tensor update_autograd(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                       c10::string_view activation) {
  const Tensor own_bias = or_undefined(bias);
  check_no_gradients("causal_conv1d_update", "causal_conv1d",
                     {{"x", &x}, {"state", &state}, {"weight", &weight}, {"bias", &own_bias}});
  const at::AutoDispatchBelowAutograd below_autograd;
  return causal_conv1d_update(x, state, weight, bias, activation);
}

Tensor update_counted(c10::DispatchKeySet keys, const Tensor& x, Tensor& state, const Tensor& weight,
                      const OptionalTensor& bias, c10::string_view activation) {
  static const auto op = find_op<decltype(update_autograd)>("vlmamba::causal_conv1d_update");
  const Tensor y = op.redispatch(keys & c10::after_ADInplaceOrView_keyset, x, state, weight, bias, activation);
  count_write(state);
  return y;
}

Tensor update_meta(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                   c10::string_view activation) {
  check_causal_conv1d_update(x, state, weight, bias, activation);
  return empty_gradient(x);
}

}  // namespace

void check_causal_conv1d_update(const Tensor& x, const Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                                std::string_view activation) {
  constexpr const char* op = "causal_conv1d_update";
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize});
  check_shape(op, "weight", weight, {x.sym_size(1), kAnySize});
  check_like(op, "weight", weight, x, /*or_float=*/true);
  TORCH_CHECK(weight.sym_size(1) >= 1, "[", op, "] weight: expected a width of 1 or more, got ", weight.sym_size(1));
  check_shape(op, "state", state, {x.sym_size(0), weight.sym_size(1) - 1, x.sym_size(1)});
  check_like(op, "state", state, x);
  check_writable(op, "state", state);
  if (bias) check_shape(op, "bias", *bias, {x.sym_size(1)}), check_like(op, "bias", *bias, x, true);
  check_activation(op, activation);
}

Tensor causal_conv1d_update(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                            std::string_view activation) {
  static const auto op = find_op<decltype(update_autograd)>("vlmamba::causal_conv1d_update");
  return op.call(x, state, weight, bias, activation);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def(
      "causal_conv1d_update(Tensor x, Tensor(a!) state, Tensor weight, Tensor? bias=None, *, str activation=\"none\") "
      "-> Tensor");
}

TORCH_LIBRARY_IMPL(vlmamba, Autograd, m) { m.impl("causal_conv1d_update", update_autograd); }

TORCH_LIBRARY_IMPL(vlmamba, ADInplaceOrView, m) { m.impl("causal_conv1d_update", update_counted); }

TORCH_LIBRARY_IMPL(vlmamba, Meta, m) { m.impl("causal_conv1d_update", update_meta); }

}  // namespace vlmamba::ops
