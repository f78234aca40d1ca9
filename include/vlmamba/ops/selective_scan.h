#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace vlmamba::ops {

/// Mamba-1's selective scan (arXiv 2312.00752): h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,
/// y_t = (C_t h_t + D u_t) * silu(z_t), with delta = softplus(delta + delta_bias) if asked.
///
/// u, delta, z, y [B,L,D] · A [D,N] · B, C [B,L,G,N] (D % G == 0) · D, delta_bias [D] · initial_state and final_state
/// [B,D,N] · seq_idx [B,L] int32: each run of equal ids >= 0 starts anew, negative ids are padding (y = 0, never read).
/// u, delta, B, C, z share one of fp32, bf16, fp16, fp64; A, D, delta_bias are of that type or fp32. Arithmetic and
/// states are fp32 (fp64 for fp64); y is rounded once. Error: twice the running bound of docs/numerics.md at most,
/// which grows with the terms and not with their sum, so that where they cancel no digit is promised; narrower types
/// add their rounding. Any strides; CPU and CUDA. Bit-identical for any number of threads. Differentiable once, in
/// every floating argument and through both states; a second derivative throws. Throws c10::Error that reads
/// `[selective_scan] argument: expected ..., got ...` before anything runs. Dispatched as `vlmamba::selective_scan`.
std::tuple<at::Tensor, at::Tensor> selective_scan(
    const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
    const std::optional<at::Tensor>& D = {}, const std::optional<at::Tensor>& z = {},
    const std::optional<at::Tensor>& delta_bias = {}, bool delta_softplus = false,
    const std::optional<at::Tensor>& initial_state = {}, const std::optional<at::Tensor>& seq_idx = {});

}  // namespace vlmamba::ops
