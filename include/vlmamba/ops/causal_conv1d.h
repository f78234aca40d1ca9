#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <tuple>

namespace vlmamba::ops {

/// Causal depthwise convolution: y_t = act(bias + sum_w weight[w] x[t - (W-1) + w]).
///
/// x, y [B,L,D] · weight [D,W], W >= 1 · bias [D] · states [B,W-1,D]: the last W-1 inputs · activation none | silu ·
/// seq_idx [B,L] int32: taps of another run count as zero, -1 is padding (y = 0, never read). Gives y and the final
/// state of the last run. Types and errors as selective_scan. Differentiable once.
std::tuple<at::Tensor, at::Tensor> causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                                                 const std::optional<at::Tensor>& bias = {},
                                                 const std::optional<at::Tensor>& initial_state = {},
                                                 const std::optional<at::Tensor>& seq_idx = {},
                                                 std::string_view activation = "none");

/// The same along every direction of a map, in place: x [B,L,D] · weight [D,W] or [K,D,W] · bias [D] or [K,D] ->
/// [B,L,K,D], indexed by pixel. Orders: scan_order.h.
at::Tensor causal_conv1d_2d(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            std::string_view scan, int64_t height, int64_t width, std::string_view activation = "none");

/// One decoding step: x [B,D]; `state` [B,W-1,D] is shifted in place. Refuses inputs that require grad in grad mode.
at::Tensor causal_conv1d_update(const at::Tensor& x, at::Tensor& state, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias = {}, std::string_view activation = "none");

}  // namespace vlmamba::ops
