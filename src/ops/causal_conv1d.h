#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace vlmamba::ops {

using OptionalTensor = std::optional<at::Tensor>;

/// Throw unless the op takes these tensors; called by every backend and Meta kernel.
void check_causal_conv1d(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                         std::string_view activation);
void check_causal_conv1d_2d(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                            std::string_view scan, const c10::SymInt& height, const c10::SymInt& width,
                            std::string_view activation);

}  // namespace vlmamba::ops
