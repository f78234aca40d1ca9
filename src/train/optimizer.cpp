#include "vlmamba/train/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr double kClipEps = 1e-6;  // as torch.nn.utils.clip_grad_norm_

void check_parts(const torch::nn::Module& model, const std::vector<std::string>& parts, const OptimizerConfig& config) {
  std::string known;
  std::vector<std::string> names;
  for (const auto& child : model.named_children()) {
    names.push_back(child.key());
    known += (known.empty() ? "" : ", ") + child.key();
  }
  const auto check = [&](const std::string& key, const std::string& part) {
    if (std::find(names.begin(), names.end(), part) == names.end())
      throw Error(ExitCode::kUsage, key, "expected one of " + known + ", got \"" + part + "\"");
  };
  for (const auto& part : parts) check("trainable", part);
  for (const auto& [part, own] : config.parts) check("optimizer.parts", part);
  if (parts.empty()) throw Error(ExitCode::kUsage, "trainable", "expected at least one of " + known + ", got none");
}

}  // namespace

bool is_decayed(const std::string& name, const Tensor& parameter) {
  const std::string last = name.substr(name.rfind('.') + 1);
  for (const std::string_view never : {"bias", "A_log", "A_logs", "D", "Ds", "dt_projs_bias"})
    if (last == never) return false;
  return parameter.dim() > 1;
}

int64_t Optimizer::Group::num_elements() const {
  int64_t count = 0;
  for (const auto& parameter : parameters) count += parameter.numel();
  return count;
}

Optimizer::Optimizer(torch::nn::Module& model, const std::vector<std::string>& parts, const OptimizerConfig& config)
    : config_(config) {
  check_parts(model, parts, config);
  for (const auto& child : model.named_children()) {
    const bool trains = std::find(parts.begin(), parts.end(), child.key()) != parts.end();
    const auto own = config.parts.find(child.key());
    const PartOptimizerConfig part = own == config.parts.end() ? PartOptimizerConfig{} : own->second;
    Group decayed{
        child.key(), part.lr.value_or(config.lr), part.weight_decay.value_or(config.weight_decay), {}, {}, {}, {}, {}};
    Group plain = decayed;
    plain.weight_decay = 0;
    for (auto& parameter : child.value()->named_parameters()) {
      parameter.value().set_requires_grad(trains);
      if (!trains) continue;
      Group& group = is_decayed(parameter.key(), parameter.value()) ? decayed : plain;
      group.names.push_back(child.key() + "." + parameter.key());
      group.parameters.push_back(parameter.value());
      group.exp_avg.push_back(at::zeros_like(parameter.value()));
      group.exp_avg_sq.push_back(at::zeros_like(parameter.value()));
      group.steps.push_back(at::zeros({}, parameter.value().options().dtype(at::kFloat).requires_grad(false)));
    }
    for (auto* group : {&decayed, &plain})
      if (!group->parameters.empty()) groups_.push_back(std::move(*group));
  }
}

void Optimizer::zero_grad() {
  for (auto& group : groups_)
    for (auto& parameter : group.parameters) parameter.mutable_grad() = Tensor();
}

void Optimizer::scale_gradients(double factor) {
  for (auto& group : groups_)
    for (auto& parameter : group.parameters)
      if (parameter.grad().defined()) parameter.mutable_grad().mul_(factor);
}

double Optimizer::clip_gradients() {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> norms;
  for (auto& group : groups_)
    for (auto& parameter : group.parameters) {
      if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter);
      norms.push_back(at::linalg_vector_norm(parameter.grad()).to(at::kDouble));
    }
  const double norm = at::linalg_vector_norm(at::stack(norms)).item<double>();
  if (config_.clip > 0 && norm > config_.clip) scale_gradients(config_.clip / (norm + kClipEps));
  return norm;
}

void Optimizer::step(double lr_factor) {
  const at::NoGradGuard no_grad;
  for (auto& group : groups_) {
    std::vector<Tensor> gradients;
    for (const auto& parameter : group.parameters) gradients.push_back(parameter.grad());
    for (auto& steps : group.steps) steps.add_(1);
    at::_fused_adamw_(group.parameters, gradients, group.exp_avg, group.exp_avg_sq, {}, group.steps,
                      group.lr * lr_factor, config_.beta1, config_.beta2, group.weight_decay, config_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

NamedTensors Optimizer::state() const {
  NamedTensors tensors;
  for (const auto& group : groups_)
    for (size_t i = 0; i < group.names.size(); ++i) {
      tensors.emplace_back("exp_avg." + group.names[i], group.exp_avg[i]);
      tensors.emplace_back("exp_avg_sq." + group.names[i], group.exp_avg_sq[i]);
    }
  return tensors;
}

void Optimizer::set_steps_done(int64_t steps) {
  for (auto& group : groups_)
    for (auto& done : group.steps) done.fill_(static_cast<double>(steps));
}

}  // namespace vlmamba
