#pragma once

#include <string_view>

#include "src/ops/check.h"
#include "src/ops/wanted.h"

namespace vlmamba::ops {

/// Throw unless the op takes these tensors; called by every backend and Meta kernel.
void check_selective_scan(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                          const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                          const OptionalTensor& delta_bias, const OptionalTensor& initial_state,
                          const OptionalTensor& seq_idx);
void check_selective_scan_backward(const at::Tensor& dy, const OptionalTensor& dfinal_state, const at::Tensor& u,
                                   const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                                   const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                   const OptionalTensor& delta_bias, const OptionalTensor& initial_state,
                                   const OptionalTensor& seq_idx);
void check_selective_scan_2d(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                             const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& delta_bias,
                             std::string_view scan, const c10::SymInt& height, const c10::SymInt& width);
void check_selective_scan_2d_backward(const at::Tensor& dy, const at::Tensor& u, const at::Tensor& delta,
                                      const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                      const OptionalTensor& D, const OptionalTensor& delta_bias, std::string_view scan,
                                      const c10::SymInt& height, const c10::SymInt& width, bool merge);

}  // namespace vlmamba::ops
