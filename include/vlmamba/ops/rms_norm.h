#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace vlmamba::ops {

/// x * rsqrt(mean(x^2) + eps) * weight over the last dimension; arithmetic in fp32, rounded once. x [..., D], weight
/// [D].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps = 1e-5);

/// residual_out = x + residual in fp32, and its rms_norm in x's type: (y, residual_out).
std::tuple<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& x, const at::Tensor& residual,
                                                const at::Tensor& weight, double eps = 1e-5);

}  // namespace vlmamba::ops
