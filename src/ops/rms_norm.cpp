// The norms, made of differentiable ATen ops, which serve every device and autograd.

#include "vlmamba/ops/rms_norm.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "src/ops/check.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;

void check(const char* op, const Tensor& x, const Tensor& weight) {
  check_floating(op, "x", x);
  TORCH_CHECK(x.dim() >= 1, "[", op, "] x: expected [..., D], got a scalar");
  check_shape(op, "weight", weight, {x.sym_size(-1)});
}

Tensor normalised(const Tensor& x, const Tensor& weight, double eps) {  // x in the type of the arithmetic
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight.to(x.scalar_type());
}

Tensor norm(const Tensor& x, const Tensor& weight, double eps) {
  check("rms_norm", x, weight);
  return normalised(x.to(math_type(x)), weight, eps).to(x.scalar_type());
}

std::tuple<Tensor, Tensor> add_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  check("add_rms_norm", x, weight);
  check_shape("add_rms_norm", "residual", residual, x.sym_sizes());
  const Tensor sum = x.to(math_type(x)) + residual.to(math_type(x));
  return {normalised(sum, weight, eps).to(x.scalar_type()), sum};
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("vlmamba::rms_norm", "").typed<decltype(norm)>();
  return op.call(x, weight, eps);
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("vlmamba::add_rms_norm", "").typed<decltype(add_norm)>();
  return op.call(x, residual, weight, eps);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps=1e-5) -> Tensor");
  m.def("add_rms_norm(Tensor x, Tensor residual, Tensor weight, float eps=1e-5) -> (Tensor y, Tensor residual_out)");
}

TORCH_LIBRARY_IMPL(vlmamba, CompositeImplicitAutograd, m) {
  m.impl("rms_norm", norm);
  m.impl("add_rms_norm", add_norm);
}

}  // namespace vlmamba::ops
