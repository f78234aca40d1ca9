#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "src/ops/wanted.h"

// What the ops with gradients of their own share.

namespace vlmamba::ops {

using OptionalTensor = std::optional<at::Tensor>;

// Autograd's contexts save tensors, ops take optional ones.
inline at::Tensor or_undefined(const OptionalTensor& tensor) { return tensor ? *tensor : at::Tensor(); }
inline OptionalTensor if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor();
}

// Of the first tensors that were saved, which are the arguments: autograd counts only those that were given.
template <size_t kCount>
Wanted<kCount> wanted_gradients(const torch::autograd::AutogradContext& context,
                                const torch::autograd::variable_list& saved) {
  Wanted<kCount> wanted{};
  size_t edge = 0;
  for (size_t i = 0; i < kCount; ++i) wanted[i] = saved[i].defined() && context.needs_input_grad(edge++);
  return wanted;
}

// What autograd takes for a gradient that nobody asked for is none.
inline at::Tensor given_if(bool wanted, const at::Tensor& gradient) { return wanted ? gradient : at::Tensor(); }

template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// What an op gives on the meta device: like its input; of a backward, empty where that was not given or not wanted.
inline at::Tensor empty_gradient(const at::Tensor& input) {
  return at::empty_like(input, at::MemoryFormat::Contiguous);
}
inline at::Tensor empty_gradient(bool wanted, const OptionalTensor& input, const at::Tensor& like) {
  return wanted && input ? empty_gradient(*input) : at::empty_symint({c10::SymInt(0)}, like.options());
}

/// Tells autograd that an op writes into a tensor, so that it notices if it had saved it. Belongs in the op's
/// ADInplaceOrView kernel, which runs under inference mode too.
inline void count_write(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

/// The Autograd kernel of every backward op: runs it, and makes a second derivative fail with the op's name, however it
/// is asked for.
void once_differentiable(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace vlmamba::ops
