// cross_scan and cross_merge as the dispatcher sees them. Each is the other's gradient, and so differentiable for ever.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "vlmamba/ops/cross_scan.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "src/ops/autograd.h"
#include "src/ops/cross_scan.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Signature = Tensor(const Tensor&, c10::string_view, c10::SymInt, c10::SymInt);

auto scan_op() {
  static const auto op = find_op<Signature>("vlmamba::cross_scan");
  return op;
}
auto merge_op() {
  static const auto op = find_op<Signature>("vlmamba::cross_merge");
  return op;
}

// `Op` forward, `Adjoint` backward.
template <auto Op, auto Adjoint>
class Crossing : public torch::autograd::Function<Crossing<Op, Adjoint>> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, std::string scan, c10::SymInt height,
                        c10::SymInt width) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->saved_data["scan"] = scan;
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    return Op().call(x, scan, height, width);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    auto& data = context->saved_data;
    return {Adjoint().call(grads[0], data["scan"].toStringView(), data["height"].toSymInt(), data["width"].toSymInt()),
            {},
            {},
            {}};
  }
};

Tensor scan_autograd(const Tensor& x, c10::string_view scan, c10::SymInt height, c10::SymInt width) {
  return Crossing<scan_op, merge_op>::apply(x, std::string(scan), height, width);
}

Tensor merge_autograd(const Tensor& x, c10::string_view scan, c10::SymInt height, c10::SymInt width) {
  return Crossing<merge_op, scan_op>::apply(x, std::string(scan), height, width);
}

Tensor scan_meta(const Tensor& x, c10::string_view scan, c10::SymInt height, c10::SymInt width) {
  check_cross_scan(x, scan, height, width);
  const auto directions = static_cast<int64_t>(scan_directions(scan).size());
  return at::empty_symint({x.sym_size(0), directions, x.sym_size(1), x.sym_size(2)}, x.options());
}

Tensor merge_meta(const Tensor& x, c10::string_view scan, c10::SymInt height, c10::SymInt width) {
  check_cross_merge(x, scan, height, width);
  return at::empty_symint({x.sym_size(0), x.sym_size(2), x.sym_size(3)}, x.options());
}

}  // namespace

void check_cross_scan(const Tensor& x, std::string_view scan, const c10::SymInt& height, const c10::SymInt& width) {
  constexpr const char* op = "cross_scan";
  scan_directions(scan, op);
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize, kAnySize});
  check_map(op, x.sym_size(1), height, width);
}

void check_cross_merge(const Tensor& x, std::string_view scan, const c10::SymInt& height, const c10::SymInt& width) {
  constexpr const char* op = "cross_merge";
  const auto directions = static_cast<int64_t>(scan_directions(scan, op).size());
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, directions, kAnySize, kAnySize});
  check_map(op, x.sym_size(2), height, width);
}

Tensor cross_scan(const Tensor& x, std::string_view scan, int64_t height, int64_t width) {
  return scan_op().call(x, scan, height, width);
}

Tensor cross_merge(const Tensor& x, std::string_view scan, int64_t height, int64_t width) {
  return merge_op().call(x, scan, height, width);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def("cross_scan(Tensor x, *, str scan, SymInt height, SymInt width) -> Tensor");
  m.def("cross_merge(Tensor x, *, str scan, SymInt height, SymInt width) -> Tensor");
}

TORCH_LIBRARY_IMPL(vlmamba, Autograd, m) {
  m.impl("cross_scan", scan_autograd);
  m.impl("cross_merge", merge_autograd);
}

TORCH_LIBRARY_IMPL(vlmamba, Meta, m) {
  m.impl("cross_scan", scan_meta);
  m.impl("cross_merge", merge_meta);
}

}  // namespace vlmamba::ops
