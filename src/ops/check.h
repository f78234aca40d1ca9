#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <utility>

// Messages of the ops: `[op] argument: expected ..., got ...`. Every backend and the Meta kernel calls them, because
// the Autograd kernel cannot stand guard: under inference mode it does not run.

namespace vlmamba::ops {

using OptionalTensor = std::optional<at::Tensor>;

/// A size that may be anything.
constexpr int64_t kAnySize = -1;

void check_shape(const char* op, const char* name, const at::Tensor& tensor, c10::SymIntArrayRef expected);

/// fp32, bf16, fp16 or fp64.
void check_floating(const char* op, const char* name, const at::Tensor& tensor);

/// The type and the device of `like`; fp32 too if `or_float`, unless `like` is fp64.
void check_like(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& like,
                bool or_float = false);

/// This type, on the device of `like`.
void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType type,
                const at::Tensor& like);

/// No two elements of a tensor that is written into may share memory.
void check_writable(const char* op, const char* name, const at::Tensor& tensor);

/// height * width == length.
void check_map(const char* op, const c10::SymInt& length, const c10::SymInt& height, const c10::SymInt& width);

/// A number of groups that divides the channels.
void check_groups(const char* op, const c10::SymInt& channels, const c10::SymInt& groups);

/// For ops without gradients: no tensor may require one while grad mode is on. `instead` names what to use for
/// training.
void check_no_gradients(const char* op, const char* instead,
                        std::initializer_list<std::pair<const char*, const at::Tensor*>> tensors);

/// The type in which states are kept and arithmetic is done: fp64 for fp64, fp32 for all else.
inline at::ScalarType math_type(const at::Tensor& u) {
  return u.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline at::Tensor in_math_type(const at::Tensor& tensor, at::ScalarType type) { return tensor.to(type).contiguous(); }
inline at::Tensor in_math_type(const OptionalTensor& tensor, at::ScalarType type) {
  return tensor && tensor->defined() ? in_math_type(*tensor, type) : at::Tensor();
}

}  // namespace vlmamba::ops
