#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace vlmamba::ops {

/// The K sequences of a map: x [B,L,D] -> [B,K,L,D], always a copy. Orders: scan_order.h; L = height * width.
at::Tensor cross_scan(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width);

/// The adjoint of cross_scan: sequences back to pixels, summed in fp32 and rounded once. x [B,K,L,D] -> [B,L,D].
at::Tensor cross_merge(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width);

}  // namespace vlmamba::ops
