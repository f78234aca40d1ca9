#include "vlmamba/nn/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <utility>

#include "vlmamba/nn/autocast.h"

namespace vlmamba::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What the backward pass needs beside tensors.
struct Plan : torch::CustomClassHolder {
  Segment segment;
  size_t num_inputs = 0;
  at::DeviceType device = at::kCPU;
  at::ScalarType type = at::kFloat;
};

bool needs_gradient(const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  // `tensors`: inputs, then parameters.
  static variable_list forward(AutogradContext* context, at::TensorList tensors, const c10::intrusive_ptr<Plan>& plan) {
    context->save_for_backward(tensors.vec());
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    context->set_materialize_grads(false);
    return plan->segment(tensors.slice(0, plan->num_inputs).vec());
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_grads) {
    const auto plan = c10::static_intrusive_pointer_cast<Plan>(context->saved_data["plan"].toCapsule());
    variable_list tensors = context->get_saved_variables();
    for (size_t i = 0; i < plan->num_inputs; ++i)  // cut off from what computed them
      if (tensors[i].defined()) tensors[i] = tensors[i].detach().set_requires_grad(tensors[i].requires_grad());
    const variable_list outputs = run_again(*plan, tensors);

    variable_list roots, root_grads, wanted;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (output_grads[i].defined() && needs_gradient(outputs[i])) {
        roots.push_back(outputs[i]);
        root_grads.push_back(output_grads[i]);
      }
    std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(wanted), needs_gradient);
    variable_list grads(tensors.size() + 1);  // none for the plan
    if (roots.empty() || wanted.empty()) return grads;
    const auto found = torch::autograd::grad(roots, wanted, root_grads, /*retain_graph=*/false, /*create_graph=*/false,
                                             /*allow_unused=*/true);
    for (size_t i = 0, next = 0; i < tensors.size(); ++i)
      if (needs_gradient(tensors[i])) grads[i] = found[next++];
    return grads;
  }

 private:
  static variable_list run_again(const Plan& plan, const variable_list& tensors) {
    const at::AutoGradMode with_graph(true);
    const Autocast same_type(plan.device, plan.type);
    return plan.segment({tensors.begin(), tensors.begin() + static_cast<std::ptrdiff_t>(plan.num_inputs)});
  }
};

}  // namespace

std::vector<Tensor> recompute(const std::vector<Tensor>& inputs, const std::vector<Tensor>& parameters,
                              Segment segment) {
  variable_list tensors(inputs);
  std::copy_if(parameters.begin(), parameters.end(), std::back_inserter(tensors), needs_gradient);
  if (!at::GradMode::is_enabled() || std::none_of(tensors.begin(), tensors.end(), needs_gradient))
    return segment(inputs);
  const auto device = inputs.front().device().type();
  auto plan = c10::make_intrusive<Plan>();
  plan->segment = std::move(segment);
  plan->num_inputs = inputs.size();
  plan->device = device;
  plan->type = Autocast::current(device);
  return Recompute::apply(at::TensorList(tensors), plan);  // of a vector, autograd would not see the tensors
}

}  // namespace vlmamba::nn
