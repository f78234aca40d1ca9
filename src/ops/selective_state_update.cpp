// One decoding step, in plain ATen on every device.

#include "vlmamba/ops/selective_state_update.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "src/ops/check.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

void check(const Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
           const Tensor& C) {
  constexpr const char* op = "selective_state_update";
  check_shape(op, "u", u, {kAnySize, kAnySize});
  const auto b = u.sym_size(0), d = u.sym_size(1);
  check_shape(op, "A", A, {d, kAnySize});
  const auto n = A.sym_size(1);
  check_shape(op, "state", state, {b, d, n});
  check_shape(op, "delta", delta, {b, d});
  check_shape(op, "B", B, {b, kAnySize, n});
  check_shape(op, "C", C, {b, B.sym_size(1), n});
  TORCH_CHECK(B.sym_size(1) > 0 && d % B.sym_size(1) == 0, "[", op, "] B: expected a number of groups that divides ", d,
              " channels, got ", B.sym_size(1));
  for (const Tensor* tensor : {&state, &u, &delta, &A, &B, &C})
    TORCH_CHECK(!(at::GradMode::is_enabled() && tensor->requires_grad()), "[", op,
                "] inputs: expected no gradients (use selective_scan for training), got one that requires grad");
}

Tensor update(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
              const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus) {
  check(state, u, delta, A, B, C);
  const auto type = math_type(u);
  Tensor dt = delta.to(type);
  if (delta_bias) dt = dt + delta_bias->to(type);
  if (delta_softplus) dt = at::softplus(dt);
  const Tensor x = u.to(type);
  const auto per_channel = [&](const Tensor& grouped) {  // [B,G,N] -> [B,D,N]
    return grouped.to(type).repeat_interleave(u.size(1) / grouped.size(1), 1);
  };
  const Tensor next = at::exp(dt.unsqueeze(-1) * A.to(type)) * state.to(type) + (dt * x).unsqueeze(-1) * per_channel(B);
  state.copy_(next);
  Tensor y = (next * per_channel(C)).sum(-1);
  if (D) y = y + D->to(type) * x;
  if (z) y = y * at::silu(z->to(type));
  return y.to(u.scalar_type());
}

}  // namespace

Tensor selective_state_update(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                              const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool delta_softplus) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("vlmamba::selective_state_update", "").typed<decltype(update)>();
  return op.call(state, u, delta, A, B, C, D, z, delta_bias, delta_softplus);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def(
      "selective_state_update(Tensor(a!) state, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, "
      "Tensor? z=None, Tensor? delta_bias=None, bool delta_softplus=False) -> Tensor");
}

TORCH_LIBRARY_IMPL(vlmamba, CompositeExplicitAutograd, m) { m.impl("selective_state_update", update); }

}  // namespace vlmamba::ops
