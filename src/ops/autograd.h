#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <optional>

// What the ops with gradients of their own share.

namespace vlmamba::ops {

using OptionalTensor = std::optional<at::Tensor>;

// Autograd's contexts save tensors, ops take optional ones.
inline at::Tensor or_undefined(const OptionalTensor& tensor) { return tensor ? *tensor : at::Tensor(); }
inline OptionalTensor if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor();
}

// The gradient of an argument that was given, else none.
inline at::Tensor given(const at::Tensor& gradient, const at::Tensor& input) {
  return input.defined() ? gradient : at::Tensor();
}

template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// What a backward gives on the meta device; empty where the argument was not given.
inline at::Tensor empty_gradient(const at::Tensor& input) {
  return at::empty_like(input, at::MemoryFormat::Contiguous);
}
inline at::Tensor empty_gradient(const OptionalTensor& input, const at::Tensor& like) {
  return input ? empty_gradient(*input) : at::empty_symint({c10::SymInt(0)}, like.options());
}

/// Tells autograd that an op writes into a tensor, so that it notices if it had saved it.
inline void count_write(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

/// The Autograd kernel of every backward op: runs it, and makes a second derivative fail with the op's name, however it
/// is asked for.
void once_differentiable(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace vlmamba::ops
