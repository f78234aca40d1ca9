#pragma once

#include "src/ops/check.h"
#include "src/ops/wanted.h"

namespace vlmamba::ops {

/// Throw unless the op takes these tensors; called by every backend and Meta kernel.
void check_rms_norm(const at::Tensor& x, const at::Tensor& weight);
void check_rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight);
void check_add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight);
void check_add_rms_norm_backward(const OptionalTensor& dy, const OptionalTensor& dresidual_out,
                                 const at::Tensor& residual_out, const at::Tensor& weight);

}  // namespace vlmamba::ops
