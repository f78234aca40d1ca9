#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace vlmamba::ops {

/// The K sequences of a map: x [B,L,D] -> [B,K,L,D], always a copy. Orders: scan_order.h; L = height * width.
/// fp32, bf16, fp16 or fp64; exact; CPU and CUDA. Its gradient is cross_merge, and so differentiable any number of
/// times. Throws c10::Error that reads `[cross_scan] argument: expected ..., got ...`.
at::Tensor cross_scan(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width);

/// The adjoint of cross_scan: sequences back to pixels, summed over K in fp32 (fp64 for fp64) in the order of the
/// directions and rounded once. x [B,K,L,D] -> [B,L,D]. The rest as cross_scan.
at::Tensor cross_merge(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width);

}  // namespace vlmamba::ops
