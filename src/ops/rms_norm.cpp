// The norms as the dispatcher sees them: schemas, checks, shapes and gradients.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "vlmamba/ops/rms_norm.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "src/ops/autograd.h"
#include "src/ops/rms_norm.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    return rms_norm(x, weight, eps);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto s = context->get_saved_variables();
    static const auto op =
        find_op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double, Wanted<2>)>(
            "vlmamba::rms_norm_backward");
    const auto wanted = wanted_gradients<2>(*context, s);
    auto [dx, dweight] = op.call(grads[0], s[0], s[1], context->saved_data["eps"].toDouble(), wanted);
    return {given_if(wanted[0], dx), given_if(wanted[1], dweight), Tensor()};
  }
};

Tensor norm_autograd(const Tensor& x, const Tensor& weight, double eps) { return RmsNorm::apply(x, weight, eps); }

Tensor norm_meta(const Tensor& x, const Tensor& weight, double /*eps*/) {
  check_rms_norm(x, weight);
  return empty_gradient(x);
}

std::tuple<Tensor, Tensor> norm_backward_meta(const Tensor& dy, const Tensor& x, const Tensor& weight, double /*eps*/,
                                              Wanted<2> wanted) {
  check_rms_norm_backward(dy, x, weight);
  return {empty_gradient(wanted[0], x, x), empty_gradient(wanted[1], weight, x)};
}

class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& residual, const Tensor& weight,
                               double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [y, sum] = add_rms_norm(x, residual, weight, eps);
    context->save_for_backward({sum, weight});
    context->saved_data["eps"] = eps;
    context->saved_data["x_type"] = x.scalar_type();
    context->saved_data["residual_type"] = residual.scalar_type();
    context->set_materialize_grads(false);
    return {y, sum};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    if (!grads[0].defined() && !grads[1].defined()) return {Tensor(), Tensor(), Tensor(), Tensor()};
    const auto s = context->get_saved_variables();
    auto& data = context->saved_data;
    static const auto op =
        find_op<std::tuple<Tensor, Tensor>(const OptionalTensor&, const OptionalTensor&, const Tensor&, const Tensor&,
                                           double, Wanted<2>)>("vlmamba::add_rms_norm_backward");
    const bool x = context->needs_input_grad(0), residual = context->needs_input_grad(1),
               weight = context->needs_input_grad(2);
    auto [dsum, dweight] = op.call(if_defined(grads[0]), if_defined(grads[1]), s[0], s[1], data["eps"].toDouble(),
                                   {x || residual, weight});
    return {x ? dsum.to(data["x_type"].toScalarType()) : Tensor(),
            residual ? dsum.to(data["residual_type"].toScalarType()) : Tensor(), given_if(weight, dweight), Tensor()};
  }
};

std::tuple<Tensor, Tensor> add_norm_autograd(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                             double eps) {
  auto outputs = AddRmsNorm::apply(x, residual, weight, eps);
  return {outputs[0], outputs[1]};
}

std::tuple<Tensor, Tensor> add_norm_meta(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                         double /*eps*/) {
  check_add_rms_norm(x, residual, weight);
  return {empty_gradient(x), at::empty_like(x, x.options().dtype(math_type(x)), at::MemoryFormat::Contiguous)};
}

std::tuple<Tensor, Tensor> add_norm_backward_meta(const OptionalTensor& dy, const OptionalTensor& dresidual_out,
                                                  const Tensor& residual_out, const Tensor& weight, double /*eps*/,
                                                  Wanted<2> wanted) {
  check_add_rms_norm_backward(dy, dresidual_out, residual_out, weight);
  return {empty_gradient(wanted[0], residual_out, residual_out), empty_gradient(wanted[1], weight, residual_out)};
}

void check_narrower(const char* op, const char* name, const Tensor& tensor, const Tensor& sum) {
  check_floating(op, name, tensor);
  if (sum.scalar_type() == at::kDouble || tensor.scalar_type() == at::kDouble) check_like(op, name, tensor, sum);
  check_type(op, name, tensor, tensor.scalar_type(), sum);
}

void check_input(const char* op, const Tensor& x, const Tensor& weight) {
  check_floating(op, "x", x);
  TORCH_CHECK(x.dim() >= 1, "[", op, "] x: expected [..., D], got a scalar");
  check_shape(op, "weight", weight, {x.sym_size(-1)});
  check_like(op, "weight", weight, x, /*or_float=*/true);
}

}  // namespace

void check_rms_norm(const Tensor& x, const Tensor& weight) { check_input("rms_norm", x, weight); }

void check_rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight) {
  constexpr const char* op = "rms_norm_backward";
  check_input(op, x, weight);
  check_shape(op, "dy", dy, x.sym_sizes());
  check_like(op, "dy", dy, x);
}

void check_add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight) {
  constexpr const char* op = "add_rms_norm";
  check_input(op, x, weight);
  check_shape(op, "residual", residual, x.sym_sizes());
  check_like(op, "residual", residual, x, /*or_float=*/true);
}

// dy and the weight may be narrower than the sum, which is Float or Double; none is Double alone.
void check_add_rms_norm_backward(const OptionalTensor& dy, const OptionalTensor& dresidual_out,
                                 const Tensor& residual_out, const Tensor& weight) {
  constexpr const char* op = "add_rms_norm_backward";
  check_type(op, "residual_out", residual_out, math_type(residual_out), residual_out);
  TORCH_CHECK(residual_out.dim() >= 1, "[", op, "] residual_out: expected [..., D], got a scalar");
  check_shape(op, "weight", weight, {residual_out.sym_size(-1)});
  check_narrower(op, "weight", weight, residual_out);
  if (dy) {
    check_shape(op, "dy", *dy, residual_out.sym_sizes());
    check_narrower(op, "dy", *dy, residual_out);
  }
  if (dresidual_out) {
    check_shape(op, "dresidual_out", *dresidual_out, residual_out.sym_sizes());
    check_like(op, "dresidual_out", *dresidual_out, residual_out);
  }
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  static const auto op = find_op<decltype(norm_autograd)>("vlmamba::rms_norm");
  return op.call(x, weight, eps);
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  static const auto op = find_op<decltype(add_norm_autograd)>("vlmamba::add_rms_norm");
  return op.call(x, residual, weight, eps);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps=1e-5) -> Tensor");
  m.def(
      "rms_norm_backward(Tensor dy, Tensor x, Tensor weight, float eps, bool[2] wanted) -> (Tensor dx, Tensor "
      "dweight)");
  m.def("add_rms_norm(Tensor x, Tensor residual, Tensor weight, float eps=1e-5) -> (Tensor y, Tensor residual_out)");
  m.def(
      "add_rms_norm_backward(Tensor? dy, Tensor? dresidual_out, Tensor residual_out, Tensor weight, float eps, bool[2] "
      "wanted) "
      "-> (Tensor dsum, Tensor dweight)");
}

TORCH_LIBRARY_IMPL(vlmamba, Autograd, m) {
  m.impl("rms_norm", norm_autograd);
  m.impl("add_rms_norm", add_norm_autograd);
  m.impl("rms_norm_backward", torch::CppFunction::makeFromBoxedFunction<&once_differentiable>());
  m.impl("add_rms_norm_backward", torch::CppFunction::makeFromBoxedFunction<&once_differentiable>());
}

TORCH_LIBRARY_IMPL(vlmamba, Meta, m) {
  m.impl("rms_norm", norm_meta);
  m.impl("add_rms_norm", add_norm_meta);
  m.impl("rms_norm_backward", norm_backward_meta);
  m.impl("add_rms_norm_backward", add_norm_backward_meta);
}

}  // namespace vlmamba::ops
