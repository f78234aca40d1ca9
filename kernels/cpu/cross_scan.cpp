// cross_scan and cross_merge on the CPU: whole pixels are copied, or summed by the lane kernel; threads over pixels.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "src/ops/cross_scan.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstring>
#include <vector>

#include "kernels/cpu/cross_lanes.h"
#include "kernels/cpu/work.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;

Tensor cross_scan(const Tensor& x_in, c10::string_view scan, int64_t height, int64_t width) {
  ops::check_cross_scan(x_in, scan, height, width);
  const Tensor x = x_in.contiguous();
  const auto order = ops::scan_order(scan, height, width);
  const auto directions = static_cast<int64_t>(ops::scan_directions(scan).size());
  const int64_t rows = x.size(0), length = x.size(1), channels = x.size(2), sequence = directions * length;
  const Tensor y = at::empty({rows, directions, length, channels}, x.options());
  const size_t bytes = static_cast<size_t>(channels) * x.element_size();
  const auto* from = static_cast<const char*>(x.const_data_ptr());
  auto* to = static_cast<char*>(y.mutable_data_ptr());
  for_each_part(rows * sequence, parts_of(rows * sequence, channels), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t pixel = i / sequence * length + order[static_cast<size_t>(i % sequence)];
      std::memcpy(to + static_cast<size_t>(i) * bytes, from + static_cast<size_t>(pixel) * bytes, bytes);
    }
  });
  return y;
}

Tensor cross_merge(const Tensor& x_in, c10::string_view scan, int64_t height, int64_t width) {
  ops::check_cross_merge(x_in, scan, height, width);
  const Tensor x = x_in.contiguous();
  const auto order = ops::scan_order(scan, height, width);
  const int64_t rows = x.size(0), directions = x.size(1), length = x.size(2), channels = x.size(3);
  std::vector<int32_t> step(order.size());
  for (int64_t k = 0; k < directions; ++k)
    for (int64_t t = 0; t < length; ++t)
      step[static_cast<size_t>(k * length + order[static_cast<size_t>(k * length + t)])] = static_cast<int32_t>(t);
  const Tensor y = at::empty({rows, length, channels}, x.options());
  with_storage(x.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    const MergeProblem<S> problem{length, directions, channels, step.data(), stored<S>(x), mutable_stored<S>(y)};
    const auto kernel = fastest(baseline::merge<S>, avx2::merge<S>, avx512::merge<S>);
    for_each_part(rows * length, parts_of(rows * length, directions * channels),
                  [&](int64_t, int64_t first, int64_t last) { kernel(problem, first, last); });
  });
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("cross_scan", cross_scan);
  m.impl("cross_merge", cross_merge);
}

}  // namespace vlmamba::cpu
