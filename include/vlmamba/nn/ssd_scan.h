#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace vlmamba::nn {

/// Mamba-2's scan (arXiv 2405.21060) in chunks of matrix products: h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T,
/// y_t = h_t C_t + D x_t, a scalar A and dt per head.
///
/// x [B,L,H,P] · dt [B,L,H], after softplus and limits · A, D [H] · B, C [B,L,G,N] (H % G == 0) · initial_state
/// [B,H,P,N] or undefined · seq_idx [B,L] int32 or undefined, as selective_scan's: each run starts anew, -1 is padding,
/// whose values are never read. Gives y [B,L,H,P] and the state after the last position that is no padding, in fp32
/// (fp64 for fp64). Plain ATen, differentiable.
std::tuple<at::Tensor, at::Tensor> ssd_scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& A,
                                            const at::Tensor& B, const at::Tensor& C, const at::Tensor& D,
                                            const at::Tensor& initial_state = {}, const at::Tensor& seq_idx = {},
                                            int64_t chunk = 64);

}  // namespace vlmamba::nn
