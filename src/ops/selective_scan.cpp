// selective_scan and selective_scan_2d as the dispatcher sees them: schemas, checks, shapes and gradients.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "vlmamba/ops/selective_scan.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "src/ops/autograd.h"
#include "src/ops/check.h"
#include "src/ops/scan_gradients.h"
#include "src/ops/selective_scan.h"
#include "vlmamba/ops/scan_order.h"
#include "vlmamba/ops/selective_scan_2d.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class SelectiveScan : public torch::autograd::Function<SelectiveScan> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& u, const Tensor& delta, const Tensor& A,
                               const Tensor& B, const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                               const OptionalTensor& delta_bias, bool delta_softplus,
                               const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({u, delta, A, B, C, or_undefined(D), or_undefined(z), or_undefined(delta_bias),
                                or_undefined(initial_state), or_undefined(seq_idx)});
    context->saved_data["delta_softplus"] = delta_softplus;
    context->set_materialize_grads(false);
    auto [y, final_state] = selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
    return {y, final_state};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(11);
    const auto s = context->get_saved_variables();
    // Without a gradient of y nothing is read that only y depends on: zero times an infinity would be NaN.
    const bool has_dy = grads[0].defined();
    const Tensor dy = has_dy ? grads[0] : at::zeros_like(s[0]), C = has_dy ? s[4] : at::zeros_like(s[4]),
                 D = has_dy ? s[5] : Tensor(), z = has_dy ? s[6] : Tensor();
    static const auto op = find_op<ScanGradientTuple(
        const Tensor&, const OptionalTensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
        const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool, const OptionalTensor&,
        const OptionalTensor&, Wanted<9>)>("vlmamba::selective_scan_backward");
    const auto wanted = wanted_gradients<9>(*context, s);
    auto asked = wanted;
    for (const size_t of_y : {4, 5, 6}) asked[of_y] = wanted[of_y] && has_dy;
    const auto of_y = [&](size_t i, const Tensor& gradient) {
      return wanted[i] && !has_dy ? at::zeros_like(s[i]) : given_if(wanted[i], gradient);
    };
    auto [du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial] =
        op.call(dy, if_defined(grads[1]), s[0], s[1], s[2], s[3], C, if_defined(D), if_defined(z), if_defined(s[7]),
                context->saved_data["delta_softplus"].toBool(), if_defined(s[8]), if_defined(s[9]), asked);
    return {given_if(wanted[0], du),
            given_if(wanted[1], ddelta),
            given_if(wanted[2], dA),
            given_if(wanted[3], dB),
            of_y(4, dC),
            of_y(5, dD),
            of_y(6, dz),
            given_if(wanted[7], dbias),
            Tensor(),
            given_if(wanted[8], dinitial),
            Tensor()};
  }
};

std::tuple<Tensor, Tensor> scan_autograd(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                         const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                         const OptionalTensor& delta_bias, bool delta_softplus,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  auto outputs = SelectiveScan::apply(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
  return {outputs[0], outputs[1]};
}

std::tuple<Tensor, Tensor> scan_meta(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                     const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                     const OptionalTensor& delta_bias, bool /*delta_softplus*/,
                                     const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  check_selective_scan(u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  const auto sizes = u.sym_sizes();
  return {at::empty_like(u, at::MemoryFormat::Contiguous),
          at::empty_symint({sizes[0], sizes[2], A.sym_size(1)}, u.options().dtype(math_type(u)))};
}

ScanGradientTuple scan_backward_meta(const Tensor& dy, const OptionalTensor& dfinal_state, const Tensor& u,
                                     const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                                     const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                                     bool /*delta_softplus*/, const OptionalTensor& initial_state,
                                     const OptionalTensor& seq_idx, Wanted<9> wanted) {
  check_selective_scan_backward(dy, dfinal_state, u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  return {empty_gradient(wanted[0], u, u),
          empty_gradient(wanted[1], delta, u),
          empty_gradient(wanted[2], A, u),
          empty_gradient(wanted[3], B, u),
          empty_gradient(wanted[4], C, u),
          empty_gradient(wanted[5], D, u),
          empty_gradient(wanted[6], z, u),
          empty_gradient(wanted[7], delta_bias, u),
          empty_gradient(wanted[8], initial_state, u)};
}

auto scan_2d_op() {
  static const auto op =
      find_op<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                     const OptionalTensor&, bool, c10::string_view, c10::SymInt, c10::SymInt, bool)>(
          "vlmamba::selective_scan_2d");
  return op;
}

class SelectiveScan2d : public torch::autograd::Function<SelectiveScan2d> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& u, const Tensor& delta, const Tensor& A,
                        const Tensor& B, const Tensor& C, const OptionalTensor& D, const OptionalTensor& delta_bias,
                        bool delta_softplus, std::string scan, c10::SymInt height, c10::SymInt width, bool merge) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({u, delta, A, B, C, or_undefined(D), or_undefined(delta_bias)});
    context->saved_data["delta_softplus"] = delta_softplus;
    context->saved_data["scan"] = scan;
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    context->saved_data["merge"] = merge;
    return scan_2d_op().call(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto s = context->get_saved_variables();
    auto& data = context->saved_data;
    static const auto op =
        find_op<Scan2dGradientTuple(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                    const Tensor&, const OptionalTensor&, const OptionalTensor&, bool, c10::string_view,
                                    c10::SymInt, c10::SymInt, bool, Wanted<7>)>("vlmamba::selective_scan_2d_backward");
    const auto wanted = wanted_gradients<7>(*context, s);
    auto [du, ddelta, dA, dB, dC, dD, dbias] =
        op.call(grads[0], s[0], s[1], s[2], s[3], s[4], if_defined(s[5]), if_defined(s[6]),
                data["delta_softplus"].toBool(), data["scan"].toStringView(), data["height"].toSymInt(),
                data["width"].toSymInt(), data["merge"].toBool(), wanted);
    return {given_if(wanted[0], du),
            given_if(wanted[1], ddelta),
            given_if(wanted[2], dA),
            given_if(wanted[3], dB),
            given_if(wanted[4], dC),
            given_if(wanted[5], dD),
            given_if(wanted[6], dbias),
            {},
            {},
            {},
            {},
            {}};
  }
};

Tensor scan_2d_autograd(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                        const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                        c10::string_view scan, c10::SymInt height, c10::SymInt width, bool merge) {
  return SelectiveScan2d::apply(u, delta, A, B, C, D, delta_bias, delta_softplus, std::string(scan), height, width,
                                merge);
}

Tensor scan_2d_meta(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                    const OptionalTensor& D, const OptionalTensor& delta_bias, bool /*delta_softplus*/,
                    c10::string_view scan, c10::SymInt height, c10::SymInt width, bool merge) {
  check_selective_scan_2d(u, delta, A, B, C, D, delta_bias, scan, height, width);
  if (!merge) return empty_gradient(delta);
  return at::empty_symint({u.sym_size(0), u.sym_size(1), delta.sym_size(3)}, u.options());
}

Scan2dGradientTuple scan_2d_backward_meta(const Tensor& dy, const Tensor& u, const Tensor& delta, const Tensor& A,
                                          const Tensor& B, const Tensor& C, const OptionalTensor& D,
                                          const OptionalTensor& delta_bias, bool /*delta_softplus*/,
                                          c10::string_view scan, c10::SymInt height, c10::SymInt width, bool merge,
                                          Wanted<7> wanted) {
  check_selective_scan_2d_backward(dy, u, delta, A, B, C, D, delta_bias, scan, height, width, merge);
  return {empty_gradient(wanted[0], u, u),         empty_gradient(wanted[1], delta, u), empty_gradient(wanted[2], A, u),
          empty_gradient(wanted[3], B, u),         empty_gradient(wanted[4], C, u),     empty_gradient(wanted[5], D, u),
          empty_gradient(wanted[6], delta_bias, u)};
}

void check_1d(const char* op, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
              const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
              const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  check_floating(op, "u", u);
  check_shape(op, "u", u, {kAnySize, kAnySize, kAnySize});
  const auto b = u.sym_size(0), l = u.sym_size(1), d = u.sym_size(2);
  check_shape(op, "delta", delta, {b, l, d});
  check_shape(op, "A", A, {d, kAnySize});
  const auto n = A.sym_size(1);
  check_shape(op, "B", B, {b, l, kAnySize, n});
  const auto g = B.sym_size(2);
  check_shape(op, "C", C, {b, l, g, n});
  check_groups(op, d, g);
  for (const auto& [name, tensor] : {std::pair("delta", &delta), std::pair("B", &B), std::pair("C", &C)})
    check_like(op, name, *tensor, u);
  check_like(op, "A", A, u, /*or_float=*/true);
  if (D) check_shape(op, "D", *D, {d}), check_like(op, "D", *D, u, true);
  if (z) check_shape(op, "z", *z, {b, l, d}), check_like(op, "z", *z, u);
  if (delta_bias) check_shape(op, "delta_bias", *delta_bias, {d}), check_like(op, "delta_bias", *delta_bias, u, true);
  if (initial_state) {
    check_shape(op, "initial_state", *initial_state, {b, d, n});
    check_type(op, "initial_state", *initial_state, math_type(u), u);
  }
  if (seq_idx) {
    check_shape(op, "seq_idx", *seq_idx, {b, l});
    check_type(op, "seq_idx", *seq_idx, at::kInt, u);
  }
}

void check_2d(const char* op, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
              const OptionalTensor& D, const OptionalTensor& delta_bias, std::string_view scan,
              const c10::SymInt& height, const c10::SymInt& width) {
  const auto k = static_cast<int64_t>(scan_directions(scan, op).size());
  check_floating(op, "u", u);
  TORCH_CHECK(u.dim() == 3 || u.dim() == 4, "[", op, "] u: expected [B,L,D] or [B,L,K,D], got ", u.sym_sizes());
  const auto b = u.sym_size(0), l = u.sym_size(1), d = u.sym_size(-1);
  check_map(op, l, height, width);
  if (u.dim() == 4) check_shape(op, "u", u, {b, l, k, d});
  check_shape(op, "delta", delta, {b, l, k, d});
  check_shape(op, "A", A, {k, d, kAnySize});
  const auto n = A.sym_size(2);
  check_shape(op, "B", B, {b, l, k, kAnySize, n});
  const auto g = B.sym_size(3);
  check_shape(op, "C", C, {b, l, k, g, n});
  check_groups(op, d, g);
  for (const auto& [name, tensor] : {std::pair("delta", &delta), std::pair("B", &B), std::pair("C", &C)})
    check_like(op, name, *tensor, u);
  check_like(op, "A", A, u, /*or_float=*/true);
  if (D) check_shape(op, "D", *D, {k, d}), check_like(op, "D", *D, u, true);
  if (delta_bias)
    check_shape(op, "delta_bias", *delta_bias, {k, d}), check_like(op, "delta_bias", *delta_bias, u, true);
}

}  // namespace

void check_selective_scan(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                          const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                          const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  check_1d("selective_scan", u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
}

void check_selective_scan_backward(const Tensor& dy, const OptionalTensor& dfinal_state, const Tensor& u,
                                   const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                                   const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                                   const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  constexpr const char* op = "selective_scan_backward";
  check_1d(op, u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  check_shape(op, "dy", dy, u.sym_sizes());
  check_like(op, "dy", dy, u);
  if (!dfinal_state) return;
  check_shape(op, "dfinal_state", *dfinal_state, {u.sym_size(0), u.sym_size(2), A.sym_size(1)});
  check_type(op, "dfinal_state", *dfinal_state, math_type(u), u);
}

void check_selective_scan_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                             const OptionalTensor& D, const OptionalTensor& delta_bias, std::string_view scan,
                             const c10::SymInt& height, const c10::SymInt& width) {
  check_2d("selective_scan_2d", u, delta, A, B, C, D, delta_bias, scan, height, width);
}

void check_selective_scan_2d_backward(const Tensor& dy, const Tensor& u, const Tensor& delta, const Tensor& A,
                                      const Tensor& B, const Tensor& C, const OptionalTensor& D,
                                      const OptionalTensor& delta_bias, std::string_view scan,
                                      const c10::SymInt& height, const c10::SymInt& width, bool merge) {
  constexpr const char* op = "selective_scan_2d_backward";
  check_2d(op, u, delta, A, B, C, D, delta_bias, scan, height, width);
  if (merge)
    check_shape(op, "dy", dy, {u.sym_size(0), u.sym_size(1), u.sym_size(-1)});
  else
    check_shape(op, "dy", dy, delta.sym_sizes());
  check_like(op, "dy", dy, u);
}

std::tuple<Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                          const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                          const OptionalTensor& delta_bias, bool delta_softplus,
                                          const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  static const auto op = find_op<decltype(scan_autograd)>("vlmamba::selective_scan");
  return op.call(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
}

Tensor selective_scan_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                         const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                         std::string_view scan, int64_t height, int64_t width, bool merge) {
  return scan_2d_op().call(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def(
      "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? z=None, "
      "Tensor? delta_bias=None, bool delta_softplus=False, Tensor? initial_state=None, Tensor? seq_idx=None) "
      "-> (Tensor y, Tensor final_state)");
  m.def(
      "selective_scan_backward(Tensor dy, Tensor? dfinal_state, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, "
      "Tensor? D, Tensor? z, Tensor? delta_bias, bool delta_softplus, Tensor? initial_state, Tensor? seq_idx, "
      "bool[9] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "selective_scan_2d(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? "
      "delta_bias=None, "
      "bool delta_softplus=False, *, str scan, SymInt height, SymInt width, bool merge=True) -> Tensor");
  m.def(
      "selective_scan_2d_backward(Tensor dy, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, "
      "Tensor? delta_bias, bool delta_softplus, str scan, SymInt height, SymInt width, bool merge, bool[7] wanted) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vlmamba, Autograd, m) {
  m.impl("selective_scan", scan_autograd);
  m.impl("selective_scan_2d", scan_2d_autograd);
  m.impl("selective_scan_backward", torch::CppFunction::makeFromBoxedFunction<&once_differentiable>());
  m.impl("selective_scan_2d_backward", torch::CppFunction::makeFromBoxedFunction<&once_differentiable>());
}

TORCH_LIBRARY_IMPL(vlmamba, Meta, m) {
  m.impl("selective_scan", scan_meta);
  m.impl("selective_scan_2d", scan_2d_meta);
  m.impl("selective_scan_backward", scan_backward_meta);
  m.impl("selective_scan_2d_backward", scan_2d_backward_meta);
}

}  // namespace vlmamba::ops
