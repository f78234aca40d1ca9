#include "src/ops/autograd.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

namespace vlmamba::ops {
namespace {

// `vlmamba::rms_norm_backward` is the backward of rms_norm.
std::string second_derivative_message(const c10::OperatorHandle& op) {
  std::string name = op.schema().name();
  name = name.substr(name.rfind(':') + 1);
  name = name.substr(0, name.rfind("_backward"));
  return "[" + name + "] gradient: expected a first derivative, got a request for the second, which it does not have";
}

}  // namespace

void once_differentiable(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  torch::autograd::variable_list inputs;
  for (const c10::IValue& value : torch::jit::last(*stack, op.schema().arguments().size()))
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().requires_grad())
      inputs.push_back(value.toTensor());
  const bool wanted = c10::GradMode::is_enabled() && !inputs.empty();
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    op.callBoxed(stack);
  }
  if (!wanted) return;
  const auto node = std::make_shared<torch::autograd::Error>(second_derivative_message(op),
                                                             torch::autograd::collect_next_edges(inputs));
  for (const c10::IValue& value : torch::jit::last(*stack, op.schema().returns().size()))
    torch::autograd::set_history(value.toTensor(), node);
}

}  // namespace vlmamba::ops
