#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <tuple>

namespace vlmamba::ops {

/// Causal depthwise convolution: y_t = act(bias + sum_w weight[w] x[t - (W-1) + w]).
///
/// x, y [B,L,D] · weight [D,W], W >= 1 · bias [D] · states [B,W-1,D]: the last W-1 inputs · activation none | silu ·
/// seq_idx [B,L] int32: taps of another run count as zero, negative ids are padding (y = 0, never read). The initial
/// state belongs to a row's first run; the final one is the last run's, zeros where that is shorter than W-1.
/// x, the states and y share one of fp32, bf16, fp16, fp64; weight and bias are of that type or fp32. Arithmetic in
/// fp32 (fp64 for fp64), rounded once. Devices, error bound and errors as selective_scan. Differentiable once, in every
/// floating argument and through both states.
std::tuple<at::Tensor, at::Tensor> causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                                                 const std::optional<at::Tensor>& bias = {},
                                                 const std::optional<at::Tensor>& initial_state = {},
                                                 const std::optional<at::Tensor>& seq_idx = {},
                                                 std::string_view activation = "none");

/// The same along every direction of a map, in place: x [B,L,D] · weight [D,W] or [K,D,W] · bias [D] or [K,D] ->
/// [B,L,K,D], indexed by pixel. Orders: scan_order.h. Types, gradients and errors as causal_conv1d.
at::Tensor causal_conv1d_2d(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            std::string_view scan, int64_t height, int64_t width, std::string_view activation = "none");

/// One decoding step: x, y [B,D]; `state` [B,W-1,D] of x's type is shifted in place. Types and errors as causal_conv1d.
/// No gradient: throws if an input requires one while grad mode is on.
at::Tensor causal_conv1d_update(const at::Tensor& x, at::Tensor& state, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias = {}, std::string_view activation = "none");

}  // namespace vlmamba::ops
