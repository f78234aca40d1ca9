#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace vlmamba::ops {

/// Root-mean-square norm (arXiv 1910.07467) over the last dimension: x / sqrt(mean(x^2) + eps) * weight.
///
/// x, y [..., D] of fp32, bf16, fp16 or fp64 · weight [D] of that type or fp32. Arithmetic in fp32 (fp64 for fp64),
/// rounded once, as mamba_ssm does; error as selective_scan. (Hugging Face rounds before it multiplies by the weight.)
/// Any strides; CPU and CUDA; bit-identical for any number of threads. Differentiable once. Throws c10::Error that
/// reads `[rms_norm] argument: expected ..., got ...`.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps = 1e-5);

/// A block's residual sum and its norm in one pass: residual_out = x + residual in fp32 (fp64 for fp64), y = its
/// rms_norm in x's type. residual [..., D] is of x's type or fp32. Gives (y, residual_out); the rest as rms_norm.
std::tuple<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& x, const at::Tensor& residual,
                                                const at::Tensor& weight, double eps = 1e-5);

}  // namespace vlmamba::ops
