// One decoding step as the dispatcher sees it: schema, checks and shapes. It has no gradient.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "vlmamba/ops/selective_state_update.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "src/ops/autograd.h"
#include "src/ops/selective_state_update.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;

Tensor update_autograd(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                       const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                       const OptionalTensor& delta_bias, bool delta_softplus) {
  const Tensor skip = or_undefined(D), gate = or_undefined(z), bias = or_undefined(delta_bias);
  check_no_gradients("selective_state_update", "selective_scan",
                     {{"state", &state},
                      {"u", &u},
                      {"delta", &delta},
                      {"A", &A},
                      {"B", &B},
                      {"C", &C},
                      {"D", &skip},
                      {"z", &gate},
                      {"delta_bias", &bias}});
  const at::AutoDispatchBelowAutograd below_autograd;
  return selective_state_update(state, u, delta, A, B, C, D, z, delta_bias, delta_softplus);
}

Tensor update_counted(c10::DispatchKeySet keys, Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A,
                      const Tensor& B, const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                      const OptionalTensor& delta_bias, bool delta_softplus) {
  static const auto op = find_op<decltype(update_autograd)>("vlmamba::selective_state_update");
  const Tensor y = op.redispatch(keys & c10::after_ADInplaceOrView_keyset, state, u, delta, A, B, C, D, z, delta_bias,
                                 delta_softplus);
  count_write(state);
  return y;
}

Tensor update_meta(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                   const Tensor& C, const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                   bool /*delta_softplus*/) {
  check_selective_state_update(state, u, delta, A, B, C, D, z, delta_bias);
  return empty_gradient(u);
}

}  // namespace

void check_selective_state_update(const Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A,
                                  const Tensor& B, const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                  const OptionalTensor& delta_bias) {
  constexpr const char* op = "selective_state_update";
  check_floating(op, "u", u);
  check_shape(op, "u", u, {kAnySize, kAnySize});
  const auto b = u.sym_size(0), d = u.sym_size(1);
  check_shape(op, "A", A, {d, kAnySize});
  const auto n = A.sym_size(1);
  check_shape(op, "state", state, {b, d, n});
  check_type(op, "state", state, math_type(u), u);
  check_writable(op, "state", state);
  check_shape(op, "delta", delta, {b, d});
  check_shape(op, "B", B, {b, kAnySize, n});
  check_shape(op, "C", C, {b, B.sym_size(1), n});
  check_groups(op, d, B.sym_size(1));
  for (const auto& [name, tensor] : {std::pair("delta", &delta), std::pair("B", &B), std::pair("C", &C)})
    check_like(op, name, *tensor, u);
  check_like(op, "A", A, u, /*or_float=*/true);
  if (D) check_shape(op, "D", *D, {d}), check_like(op, "D", *D, u, true);
  if (z) check_shape(op, "z", *z, {b, d}), check_like(op, "z", *z, u);
  if (delta_bias) check_shape(op, "delta_bias", *delta_bias, {d}), check_like(op, "delta_bias", *delta_bias, u, true);
}

Tensor selective_state_update(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                              const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool delta_softplus) {
  static const auto op = find_op<decltype(update_autograd)>("vlmamba::selective_state_update");
  return op.call(state, u, delta, A, B, C, D, z, delta_bias, delta_softplus);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def(
      "selective_state_update(Tensor(a!) state, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, "
      "Tensor? z=None, Tensor? delta_bias=None, bool delta_softplus=False) -> Tensor");
}

TORCH_LIBRARY_IMPL(vlmamba, Autograd, m) { m.impl("selective_state_update", update_autograd); }

TORCH_LIBRARY_IMPL(vlmamba, ADInplaceOrView, m) { m.impl("selective_state_update", update_counted); }

TORCH_LIBRARY_IMPL(vlmamba, Meta, m) { m.impl("selective_state_update", update_meta); }

}  // namespace vlmamba::ops
