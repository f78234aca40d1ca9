#pragma once

#include "src/ops/check.h"

namespace vlmamba::ops {

/// Throws unless the op takes these tensors; called by every backend and Meta kernel.
void check_selective_state_update(const at::Tensor& state, const at::Tensor& u, const at::Tensor& delta,
                                  const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                  const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias);

}  // namespace vlmamba::ops
