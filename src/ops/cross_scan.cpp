// cross_scan and cross_merge: the explicit form of the scan orders, in plain ATen on every device.

#include "vlmamba/ops/cross_scan.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "src/ops/check.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;

// [K, L] pixels on the device of x.
Tensor order_tensor(const Tensor& x, c10::string_view scan, int64_t height, int64_t width) {
  const auto order = scan_order(scan, height, width);
  const auto directions = static_cast<int64_t>(scan_directions(scan).size());
  return at::tensor(at::ArrayRef<int32_t>(order)).to(at::kLong).view({directions, height * width}).to(x.device());
}

void check_map(const char* op, int64_t length, int64_t height, int64_t width) {
  TORCH_CHECK(height > 0 && width > 0 && height * width == length, "[", op, "] height, width: expected a product of ",
              length, ", got ", height, " x ", width);
}

Tensor scan(const Tensor& x, c10::string_view scan, int64_t height, int64_t width) {
  check_shape("cross_scan", "x", x, {kAnySize, kAnySize, kAnySize});
  check_map("cross_scan", x.size(1), height, width);
  const Tensor order = order_tensor(x, scan, height, width);
  return x.index_select(1, order.flatten()).view({x.size(0), order.size(0), order.size(1), x.size(2)});
}

Tensor merge(const Tensor& x, c10::string_view scan, int64_t height, int64_t width) {
  check_shape("cross_merge", "x", x,
              {kAnySize, static_cast<int64_t>(scan_directions(scan).size()), kAnySize, kAnySize});
  check_map("cross_merge", x.size(2), height, width);
  const Tensor back = order_tensor(x, scan, height, width).argsort(int64_t{1}, /*descending=*/false);
  Tensor sum = at::zeros({x.size(0), x.size(2), x.size(3)}, x.options().dtype(math_type(x)));
  for (int64_t k = 0; k < x.size(1); ++k) sum = sum + x.select(1, k).index_select(1, back.select(0, k));
  return sum.to(x.scalar_type());
}

}  // namespace

Tensor cross_scan(const Tensor& x, std::string_view scan, int64_t height, int64_t width) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vlmamba::cross_scan", "")
                             .typed<Tensor(const Tensor&, c10::string_view, c10::SymInt, c10::SymInt)>();
  return op.call(x, scan, height, width);
}

Tensor cross_merge(const Tensor& x, std::string_view scan, int64_t height, int64_t width) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vlmamba::cross_merge", "")
                             .typed<Tensor(const Tensor&, c10::string_view, c10::SymInt, c10::SymInt)>();
  return op.call(x, scan, height, width);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def("cross_scan(Tensor x, *, str scan, SymInt height, SymInt width) -> Tensor");
  m.def("cross_merge(Tensor x, *, str scan, SymInt height, SymInt width) -> Tensor");
}

// Made of differentiable ATen ops, which serve every device and autograd.
TORCH_LIBRARY_IMPL(vlmamba, CompositeImplicitAutograd, m) {
  m.impl("cross_scan", scan);
  m.impl("cross_merge", merge);
}

}  // namespace vlmamba::ops
