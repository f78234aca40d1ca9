#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace vlmamba::ops {

/// All K directions of a map, in place: direction k reads and writes the pixels in the order of scan_order.h, and
/// nothing is permuted or copied.
///
/// u [B,L,D] or [B,L,K,D] · delta [B,L,K,D] · A [K,D,N] · B, C [B,L,K,G,N] · D, delta_bias [K,D] · L = height * width.
/// Gives the sum over K [B,L,D], or with merge = false every direction's output [B,L,K,D], indexed by pixel. Types,
/// devices, error bound, gradients and errors as selective_scan; the sum over K is made in fp32 and rounded once.
at::Tensor selective_scan_2d(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                             const at::Tensor& C, const std::optional<at::Tensor>& D,
                             const std::optional<at::Tensor>& delta_bias, bool delta_softplus, std::string_view scan,
                             int64_t height, int64_t width, bool merge = true);

}  // namespace vlmamba::ops
