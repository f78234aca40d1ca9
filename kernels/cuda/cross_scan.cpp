// cross_scan and cross_merge on CUDA: tensors to launchers.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "kernels/cuda/cross_scan.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/tensors.h"
#include "src/ops/cross_scan.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cuda {
namespace {

using at::Tensor;

Maps maps_of(const char* op, int64_t batch, int64_t length, int64_t channels, c10::string_view scan, int64_t width) {
  TORCH_CHECK(length <= INT32_MAX, "[", op, "] x: expected at most ", INT32_MAX, " pixels, got ", length);
  return {batch, length, channels, static_cast<int>(ops::scan_directions(scan).size()), static_cast<int>(width)};
}

Tensor scan_op(const Tensor& x_in, c10::string_view scan, int64_t height, int64_t width) {
  ops::check_cross_scan(x_in, scan, height, width);
  const DeviceScope scope(x_in);
  const Tensor x = x_in.contiguous();
  const Maps maps = maps_of("cross_scan", x.size(0), x.size(1), x.size(2), scan, width);
  const Tensor y = at::empty({maps.batch, maps.directions, maps.length, maps.channels}, x.options());
  VLMAMBA_DISPATCH_FLOATING(x.scalar_type(), "cross_scan", [&] {
    check(cross_scan(maps, device_data<scalar_t>(x), mutable_device_data<scalar_t>(y), scope.stream()));
  });
  return y;
}

Tensor merge_op(const Tensor& x_in, c10::string_view scan, int64_t height, int64_t width) {
  ops::check_cross_merge(x_in, scan, height, width);
  const DeviceScope scope(x_in);
  const Tensor x = x_in.contiguous();
  const Maps maps = maps_of("cross_merge", x.size(0), x.size(2), x.size(3), scan, width);
  const Tensor y = at::empty({maps.batch, maps.length, maps.channels}, x.options());
  VLMAMBA_DISPATCH_FLOATING(x.scalar_type(), "cross_merge", [&] {
    check(cross_merge(maps, device_data<scalar_t>(x), mutable_device_data<scalar_t>(y), scope.stream()));
  });
  return y;
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("cross_scan", scan_op);
  m.impl("cross_merge", merge_op);
}

}  // namespace vlmamba::cuda
