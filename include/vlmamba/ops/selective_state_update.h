#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace vlmamba::ops {

/// One step of selective_scan for decoding: updates `state` [B,D,N] in place and returns y [B,D].
/// u, delta, z [B,D] · A [D,N] · B, C [B,G,N] · D, delta_bias [D]. `state` is fp32 (fp64 for fp64) and no two of its
/// elements share memory. Other types, devices, error bound and errors as selective_scan. No gradient: throws if an
/// input requires one while grad mode is on.
at::Tensor selective_state_update(at::Tensor& state, const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A,
                                  const at::Tensor& B, const at::Tensor& C, const std::optional<at::Tensor>& D = {},
                                  const std::optional<at::Tensor>& z = {},
                                  const std::optional<at::Tensor>& delta_bias = {}, bool delta_softplus = false);

}  // namespace vlmamba::ops
