#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <tuple>

/// The ops with kernels, written once more as plain loops of differentiable ATen ops: what every kernel is tested
/// against, values and gradients, and the shortest exact description of what they compute. Same arguments and results.
namespace vlmamba::ops::reference {

std::tuple<at::Tensor, at::Tensor> selective_scan(
    const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
    const std::optional<at::Tensor>& D = {}, const std::optional<at::Tensor>& z = {},
    const std::optional<at::Tensor>& delta_bias = {}, bool delta_softplus = false,
    const std::optional<at::Tensor>& initial_state = {}, const std::optional<at::Tensor>& seq_idx = {});

at::Tensor selective_scan_2d(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                             const at::Tensor& C, const std::optional<at::Tensor>& D,
                             const std::optional<at::Tensor>& delta_bias, bool delta_softplus, std::string_view scan,
                             int64_t height, int64_t width, bool merge = true);

std::tuple<at::Tensor, at::Tensor> causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                                                 const std::optional<at::Tensor>& bias = {},
                                                 const std::optional<at::Tensor>& initial_state = {},
                                                 const std::optional<at::Tensor>& seq_idx = {},
                                                 std::string_view activation = "none");

at::Tensor causal_conv1d_2d(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            std::string_view scan, int64_t height, int64_t width, std::string_view activation = "none");

at::Tensor cross_scan(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width);
at::Tensor cross_merge(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width);

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps = 1e-5);
std::tuple<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& x, const at::Tensor& residual,
                                                const at::Tensor& weight, double eps = 1e-5);

at::Tensor selective_state_update(at::Tensor& state, const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A,
                                  const at::Tensor& B, const at::Tensor& C, const std::optional<at::Tensor>& D = {},
                                  const std::optional<at::Tensor>& z = {},
                                  const std::optional<at::Tensor>& delta_bias = {}, bool delta_softplus = false);
at::Tensor causal_conv1d_update(const at::Tensor& x, at::Tensor& state, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias = {}, std::string_view activation = "none");

}  // namespace vlmamba::ops::reference
