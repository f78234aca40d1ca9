#pragma once

#include <ATen/ATen.h>

#include <algorithm>

// The one table of what a kernel's result may differ from the same computation in fp64 on the same (rounded) inputs.

namespace vlmamba::test {

/// Of an element x of a tensor whose largest is m: at most rounding |x| + arithmetic m.
struct Tolerance {
  double rounding;    ///< of the output's type: half a unit in the last place of 1
  double arithmetic;  ///< of the sums and exponentials behind it
};

/// fp16 and bf16 are computed in fp32. The CPU's instruction sets share their row; so do emulated and real devices.
inline Tolerance tolerance(at::DeviceType device, at::ScalarType type) {
  const double single = device == at::kCPU ? 4e-6 : 8e-6;
  switch (type) {
    case at::kDouble:
      return {0, 1e-12};
    case at::kHalf:
      return {0x1p-11, single};
    case at::kBFloat16:
      return {0x1p-8, single};
    default:
      return {0x1p-24, single};
  }
}

/// The largest error in units of what is tolerated: at most 1 where a result is right. Infinite where just one of an
/// element is finite, or the sizes differ.
inline double error(const at::Tensor& result, const at::Tensor& expected) {
  if (result.sizes() != expected.sizes()) return INFINITY;
  if (expected.numel() == 0) return 0;
  const auto allowed = tolerance(result.device().type(), result.scalar_type());
  const at::Tensor x = result.detach().to(at::kCPU, at::kDouble), y = expected.detach().to(at::kCPU, at::kDouble);
  const at::Tensor finite = y.isfinite();
  if (!at::equal(x.isfinite(), finite)) return INFINITY;
  const at::Tensor sizes = at::where(finite, y.abs(), 0);
  // Half precision's steps end at 2^-24; a tensor of nothing but zeros must be met exactly.
  const double least = result.scalar_type() == at::kHalf ? 0x1p-25 : 0;
  const at::Tensor limit = sizes * allowed.rounding + sizes.max() * allowed.arithmetic + least;
  const at::Tensor errors = at::where(finite, (x - y).abs(), 0);
  return at::where(errors == 0, errors, errors / limit).max().item<double>();
}

}  // namespace vlmamba::test
