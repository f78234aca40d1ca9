#pragma once

#include <string_view>

#include "src/ops/check.h"
#include "src/ops/wanted.h"

namespace vlmamba::ops {

/// Throw unless the op takes these tensors; called by every backend and Meta kernel.
void check_causal_conv1d(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                         std::string_view activation);
void check_causal_conv1d_2d(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                            std::string_view scan, const c10::SymInt& height, const c10::SymInt& width,
                            std::string_view activation);
void check_causal_conv1d_backward(const at::Tensor& dy, const OptionalTensor& dfinal_state, const at::Tensor& x,
                                  const at::Tensor& weight, const OptionalTensor& bias,
                                  const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                  std::string_view activation);
void check_causal_conv1d_2d_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                     const OptionalTensor& bias, std::string_view scan, const c10::SymInt& height,
                                     const c10::SymInt& width, std::string_view activation);
void check_causal_conv1d_update(const at::Tensor& x, const at::Tensor& state, const at::Tensor& weight,
                                const OptionalTensor& bias, std::string_view activation);
void check_activation(const char* op, std::string_view activation);

}  // namespace vlmamba::ops
