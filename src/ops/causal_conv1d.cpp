// The causal convolutions as the dispatcher sees them: schemas, checks, shapes and gradients.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "vlmamba/ops/causal_conv1d.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "src/ops/autograd.h"
#include "src/ops/causal_conv1d.h"
#include "src/ops/check.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using ConvSignature = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const OptionalTensor&,
                                                 const OptionalTensor&, const OptionalTensor&, c10::string_view);
using Conv2dSignature = Tensor(const Tensor&, const Tensor&, const OptionalTensor&, c10::string_view, c10::SymInt,
                               c10::SymInt, c10::string_view);
using ConvBackwardSignature = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const OptionalTensor&,
                                                                         const Tensor&, const Tensor&,
                                                                         const OptionalTensor&, const OptionalTensor&,
                                                                         const OptionalTensor&, c10::string_view,
                                                                         Wanted<4>);
using Conv2dBackwardSignature = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                                   const OptionalTensor&, c10::string_view, c10::SymInt,
                                                                   c10::SymInt, c10::string_view, Wanted<3>);

class CausalConv1d : public torch::autograd::Function<CausalConv1d> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                               const OptionalTensor& bias, const OptionalTensor& initial_state,
                               const OptionalTensor& seq_idx, std::string activation) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({x, weight, or_undefined(bias), or_undefined(initial_state), or_undefined(seq_idx)});
    context->saved_data["activation"] = activation;
    context->set_materialize_grads(false);
    auto [y, final_state] = causal_conv1d(x, weight, bias, initial_state, seq_idx, activation);
    return {y, final_state};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(6);
    const auto s = context->get_saved_variables();
    // Without a gradient of y the inputs alone travel on: zero times an infinity would be NaN.
    const bool has_dy = grads[0].defined();
    const Tensor dy = has_dy ? grads[0] : at::zeros_like(s[0]), weight = has_dy ? s[1] : at::zeros_like(s[1]);
    static const auto op = find_op<ConvBackwardSignature>("vlmamba::causal_conv1d_backward");
    const auto wanted = wanted_gradients<4>(*context, s);
    const auto of_y = [&](size_t i, const Tensor& gradient) {
      return wanted[i] && !has_dy ? at::zeros_like(s[i]) : given_if(wanted[i], gradient);
    };
    auto [dx, dweight, dbias, dinitial] =
        op.call(dy, if_defined(grads[1]), s[0], weight, if_defined(s[2]), if_defined(s[3]), if_defined(s[4]),
                has_dy ? context->saved_data["activation"].toStringView() : "none",
                {wanted[0], wanted[1] && has_dy, wanted[2] && has_dy, wanted[3]});
    return {given_if(wanted[0], dx),       of_y(1, dweight), of_y(2, dbias),
            given_if(wanted[3], dinitial), Tensor(),         Tensor()};
  }
};

std::tuple<Tensor, Tensor> conv_autograd(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                         c10::string_view activation) {
  auto outputs = CausalConv1d::apply(x, weight, bias, initial_state, seq_idx, std::string(activation));
  return {outputs[0], outputs[1]};
}

std::tuple<Tensor, Tensor> conv_meta(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                     const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                     c10::string_view activation) {
  check_causal_conv1d(x, weight, bias, initial_state, seq_idx, activation);
  return {at::empty_like(x, at::MemoryFormat::Contiguous),
          at::empty_symint({x.sym_size(0), weight.sym_size(1) - 1, x.sym_size(2)}, x.options())};
}

auto conv_2d_op() {
  static const auto op = find_op<Conv2dSignature>("vlmamba::causal_conv1d_2d");
  return op;
}

class CausalConv1d2d : public torch::autograd::Function<CausalConv1d2d> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                        std::string scan, c10::SymInt height, c10::SymInt width, std::string activation) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({x, weight, or_undefined(bias)});
    context->saved_data["scan"] = scan;
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    context->saved_data["activation"] = activation;
    return conv_2d_op().call(x, weight, bias, scan, height, width, activation);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto s = context->get_saved_variables();
    auto& data = context->saved_data;
    static const auto op = find_op<Conv2dBackwardSignature>("vlmamba::causal_conv1d_2d_backward");
    const auto wanted = wanted_gradients<3>(*context, s);
    auto [dx, dweight, dbias] =
        op.call(grads[0], s[0], s[1], if_defined(s[2]), data["scan"].toStringView(), data["height"].toSymInt(),
                data["width"].toSymInt(), data["activation"].toStringView(), wanted);
    return {given_if(wanted[0], dx), given_if(wanted[1], dweight), given_if(wanted[2], dbias), {}, {}, {}, {}};
  }
};

Tensor conv_2d_autograd(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, c10::string_view scan,
                        c10::SymInt height, c10::SymInt width, c10::string_view activation) {
  return CausalConv1d2d::apply(x, weight, bias, std::string(scan), height, width, std::string(activation));
}

Tensor conv_2d_meta(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, c10::string_view scan,
                    c10::SymInt height, c10::SymInt width, c10::string_view activation) {
  check_causal_conv1d_2d(x, weight, bias, scan, height, width, activation);
  const auto directions = static_cast<int64_t>(scan_directions(scan).size());
  return at::empty_symint({x.sym_size(0), x.sym_size(1), directions, x.sym_size(2)}, x.options());
}

std::tuple<Tensor, Tensor, Tensor, Tensor> conv_backward_meta(const Tensor& dy, const OptionalTensor& dfinal_state,
                                                              const Tensor& x, const Tensor& weight,
                                                              const OptionalTensor& bias,
                                                              const OptionalTensor& initial_state,
                                                              const OptionalTensor& seq_idx,
                                                              c10::string_view activation, Wanted<4> wanted) {
  check_causal_conv1d_backward(dy, dfinal_state, x, weight, bias, initial_state, seq_idx, activation);
  return {empty_gradient(wanted[0], x, x), empty_gradient(wanted[1], weight, x), empty_gradient(wanted[2], bias, x),
          empty_gradient(wanted[3], initial_state, x)};
}

std::tuple<Tensor, Tensor, Tensor> conv_2d_backward_meta(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                         const OptionalTensor& bias, c10::string_view scan,
                                                         c10::SymInt height, c10::SymInt width,
                                                         c10::string_view activation, Wanted<3> wanted) {
  check_causal_conv1d_2d_backward(dy, x, weight, bias, scan, height, width, activation);
  return {empty_gradient(wanted[0], x, x), empty_gradient(wanted[1], weight, x), empty_gradient(wanted[2], bias, x)};
}

void check_weight(const char* op, const Tensor& weight, const Tensor& x) {
  check_like(op, "weight", weight, x, /*or_float=*/true);
  const auto width = weight.sym_size(-1);
  TORCH_CHECK(width >= 1, "[", op, "] weight: expected a width of 1 or more, got ", width);
}

void check_1d(const char* op, const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
              const OptionalTensor& initial_state, const OptionalTensor& seq_idx, std::string_view activation) {
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize, kAnySize});
  const auto b = x.sym_size(0), l = x.sym_size(1), d = x.sym_size(2);
  check_shape(op, "weight", weight, {d, kAnySize});
  check_weight(op, weight, x);
  if (bias) check_shape(op, "bias", *bias, {d}), check_like(op, "bias", *bias, x, true);
  if (initial_state) {
    check_shape(op, "initial_state", *initial_state, {b, weight.sym_size(1) - 1, d});
    check_like(op, "initial_state", *initial_state, x);
  }
  if (seq_idx) check_shape(op, "seq_idx", *seq_idx, {b, l}), check_type(op, "seq_idx", *seq_idx, at::kInt, x);
  check_activation(op, activation);
}

void check_2d(const char* op, const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view scan,
              const c10::SymInt& height, const c10::SymInt& width, std::string_view activation) {
  const auto k = static_cast<int64_t>(scan_directions(scan, op).size());
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize, kAnySize});
  const auto d = x.sym_size(2);
  check_map(op, x.sym_size(1), height, width);
  if (weight.dim() == 3)
    check_shape(op, "weight", weight, {k, d, kAnySize});
  else
    check_shape(op, "weight", weight, {d, kAnySize});
  check_weight(op, weight, x);
  if (bias && bias->dim() == 2) check_shape(op, "bias", *bias, {k, d});
  if (bias && bias->dim() != 2) check_shape(op, "bias", *bias, {d});
  if (bias) check_like(op, "bias", *bias, x, true);
  check_activation(op, activation);
}

}  // namespace

void check_activation(const char* op, std::string_view activation) {
  TORCH_CHECK(activation == "none" || activation == "silu", "[", op, "] activation: expected none or silu, got ",
              std::string(activation));
}

void check_causal_conv1d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                         std::string_view activation) {
  check_1d("causal_conv1d", x, weight, bias, initial_state, seq_idx, activation);
}

void check_causal_conv1d_backward(const Tensor& dy, const OptionalTensor& dfinal_state, const Tensor& x,
                                  const Tensor& weight, const OptionalTensor& bias, const OptionalTensor& initial_state,
                                  const OptionalTensor& seq_idx, std::string_view activation) {
  constexpr const char* op = "causal_conv1d_backward";
  check_1d(op, x, weight, bias, initial_state, seq_idx, activation);
  check_shape(op, "dy", dy, x.sym_sizes());
  check_like(op, "dy", dy, x);
  if (!dfinal_state) return;
  check_shape(op, "dfinal_state", *dfinal_state, {x.sym_size(0), weight.sym_size(1) - 1, x.sym_size(2)});
  check_like(op, "dfinal_state", *dfinal_state, x);
}

void check_causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view scan,
                            const c10::SymInt& height, const c10::SymInt& width, std::string_view activation) {
  check_2d("causal_conv1d_2d", x, weight, bias, scan, height, width, activation);
}

void check_causal_conv1d_2d_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                     const OptionalTensor& bias, std::string_view scan, const c10::SymInt& height,
                                     const c10::SymInt& width, std::string_view activation) {
  constexpr const char* op = "causal_conv1d_2d_backward";
  check_2d(op, x, weight, bias, scan, height, width, activation);
  const auto k = static_cast<int64_t>(scan_directions(scan).size());
  check_shape(op, "dy", dy, {x.sym_size(0), x.sym_size(1), k, x.sym_size(2)});
  check_like(op, "dy", dy, x);
}

std::tuple<Tensor, Tensor> causal_conv1d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                         std::string_view activation) {
  static const auto op = find_op<ConvSignature>("vlmamba::causal_conv1d");
  return op.call(x, weight, bias, initial_state, seq_idx, activation);
}

Tensor causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view scan,
                        int64_t height, int64_t width, std::string_view activation) {
  return conv_2d_op().call(x, weight, bias, scan, height, width, activation);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def(
      "causal_conv1d(Tensor x, Tensor weight, Tensor? bias=None, Tensor? initial_state=None, Tensor? seq_idx=None, *, "
      "str activation=\"none\") -> (Tensor y, Tensor final_state)");
  m.def(
      "causal_conv1d_backward(Tensor dy, Tensor? dfinal_state, Tensor x, Tensor weight, Tensor? bias, "
      "Tensor? initial_state, Tensor? seq_idx, str activation, bool[4] wanted) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "causal_conv1d_2d(Tensor x, Tensor weight, Tensor? bias=None, *, str scan, SymInt height, SymInt width, "
      "str activation=\"none\") -> Tensor");
  m.def(
      "causal_conv1d_2d_backward(Tensor dy, Tensor x, Tensor weight, Tensor? bias, str scan, SymInt height, "
      "SymInt width, str activation, bool[3] wanted) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vlmamba, Autograd, m) {
  m.impl("causal_conv1d", conv_autograd);
  m.impl("causal_conv1d_2d", conv_2d_autograd);
  m.impl("causal_conv1d_backward", torch::CppFunction::makeFromBoxedFunction<&once_differentiable>());
  m.impl("causal_conv1d_2d_backward", torch::CppFunction::makeFromBoxedFunction<&once_differentiable>());
}

TORCH_LIBRARY_IMPL(vlmamba, Meta, m) {
  m.impl("causal_conv1d", conv_meta);
  m.impl("causal_conv1d_2d", conv_2d_meta);
  m.impl("causal_conv1d_backward", conv_backward_meta);
  m.impl("causal_conv1d_2d_backward", conv_2d_backward_meta);
}

}  // namespace vlmamba::ops
