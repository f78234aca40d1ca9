#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

// Messages of the ops: `[op] argument: expected ..., got ...`. Every backend and the Meta kernel calls them, because
// the Autograd kernel cannot stand guard: under inference mode it does not run.

namespace vlmamba::ops {

/// A size that may be anything.
constexpr int64_t kAnySize = -1;

inline void check_shape(const char* op, const char* name, const at::Tensor& tensor, c10::SymIntArrayRef expected) {
  TORCH_CHECK(tensor.defined(), "[", op, "] ", name, ": expected a tensor, got none");
  const auto sizes = tensor.sym_sizes();
  bool same = sizes.size() == expected.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) same = expected[i] == kAnySize || sizes[i] == expected[i];
  TORCH_CHECK(same, "[", op, "] ", name, ": expected shape ", expected, " (-1: any), got ", sizes);
}

inline void check_like(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& u,
                       bool or_float = false) {
  const bool same = tensor.scalar_type() == u.scalar_type() ||
                    (or_float && tensor.scalar_type() == at::kFloat && u.scalar_type() != at::kDouble);
  TORCH_CHECK(same, "[", op, "] ", name, ": expected ", u.scalar_type(), or_float ? " or Float" : "", ", got ",
              tensor.scalar_type());
  TORCH_CHECK(tensor.device() == u.device(), "[", op, "] ", name, ": expected device ", u.device(), ", got ",
              tensor.device());
}

inline void check_floating(const char* op, const char* name, const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16, "[", op, "] ",
              name, ": expected Float, BFloat16, Half or Double, got ", type);
}

/// The type in which states are kept and arithmetic is done: fp64 for fp64, fp32 for all else.
inline at::ScalarType math_type(const at::Tensor& u) {
  return u.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline at::Tensor in_math_type(const at::Tensor& tensor, at::ScalarType type) { return tensor.to(type).contiguous(); }
inline at::Tensor in_math_type(const std::optional<at::Tensor>& tensor, at::ScalarType type) {
  return tensor && tensor->defined() ? in_math_type(*tensor, type) : at::Tensor();
}

}  // namespace vlmamba::ops
