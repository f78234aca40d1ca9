#include "vlmamba/train/optimizer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr double kClipEps = 1e-6;  // as torch.nn.utils.clip_grad_norm_

void check_parts(const torch::nn::Module& model, const OptimizerConfig& config) {
  std::string known;
  for (const auto& child : model.named_children()) known += (known.empty() ? "" : ", ") + child.key();
  for (const auto& [part, own] : config.parts)
    if (!model.named_children().contains(part))
      throw Error(ExitCode::kUsage, "optimizer.parts", "expected one of " + known + ", got \"" + part + "\"");
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

Optimizer::Optimizer(const torch::nn::Module& model, const OptimizerConfig& config) : config_(config) {
  check_parts(model, config);
  for (const auto& child : model.named_children()) {
    const auto own = config.parts.find(child.key());
    const PartOptimizerConfig part = own == config.parts.end() ? PartOptimizerConfig{} : own->second;
    Group decayed{
        child.key(), part.lr.value_or(config.lr), part.weight_decay.value_or(config.weight_decay), {}, {}, {}, {}, {}};
    Group plain = decayed;
    plain.weight_decay = 0;
    for (auto& parameter : child.value()->named_parameters()) {
      if (!parameter.value().requires_grad()) continue;
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

void Optimizer::distribute(const torch::nn::Module& model, Comm& comm, int64_t bucket_bytes) {
  if (comm.is_alone()) return;
  comm_ = &comm;
  std::vector<Tensor> in_order;  // in which a forward uses them, about
  std::map<std::string, size_t> places;
  for (const auto& parameter : model.named_parameters())
    if (parameter.value().requires_grad()) {
      places[parameter.key()] = in_order.size();
      in_order.push_back(parameter.value());
    }
  buckets_ = std::make_unique<GradientBuckets>(comm, std::move(in_order), bucket_bytes, config_.sharded);
  for (auto& group : groups_) {
    group.places.clear();
    for (const auto& name : group.names) group.places.push_back(places.at(name));
    if (!is_sharded()) continue;
    for (auto* moments : {&group.exp_avg, &group.exp_avg_sq})
      for (size_t i = 0; i < moments->size(); ++i) (*moments)[i] = share(group, i, (*moments)[i]).clone();
  }
}

Tensor Optimizer::share(const Group& group, size_t parameter, const Tensor& whole) const {
  if (!is_sharded()) return whole;
  const auto [begin, end] = buckets_->owned(group.places[parameter]);
  return whole.view(-1).slice(0, begin, end);
}

template <typename Visit>
void Optimizer::for_each_moment(const Visit& visit) const {
  for (const auto& group : groups_)
    for (size_t i = 0; i < group.names.size(); ++i) {
      visit("exp_avg." + group.names[i], group, i, group.exp_avg[i]);
      visit("exp_avg_sq." + group.names[i], group, i, group.exp_avg_sq[i]);
    }
}

void Optimizer::zero_grad() {
  if (buckets_) return buckets_->zero();
  for (auto& group : groups_)
    for (auto& parameter : group.parameters) parameter.mutable_grad() = Tensor();
}

void Optimizer::sum_in_next_backward() {
  if (buckets_) buckets_->sum_in_next_backward();
}

void Optimizer::finish_gradients() {
  if (buckets_) buckets_->finish();
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
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      auto& parameter = group.parameters[i];
      if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter);
      norms.push_back(at::linalg_vector_norm(share(group, i, parameter.grad())).to(at::kDouble));
    }
  double norm = at::linalg_vector_norm(at::stack(norms)).item<double>();
  if (is_sharded()) norm = std::sqrt(comm_->sum(std::vector<double>{norm * norm})[0]);
  if (config_.clip > 0 && norm > config_.clip) scale_gradients(config_.clip / (norm + kClipEps));
  return norm;
}

void Optimizer::step(double lr_factor) {
  const at::NoGradGuard no_grad;
  for (auto& group : groups_) {
    std::vector<Tensor> parameters, gradients, exp_avg, exp_avg_sq, steps;
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      group.steps[i].add_(1);
      if (group.exp_avg[i].numel() == 0) continue;  // another rank's
      parameters.push_back(share(group, i, group.parameters[i]));
      gradients.push_back(share(group, i, group.parameters[i].grad()));
      exp_avg.push_back(group.exp_avg[i]);
      exp_avg_sq.push_back(group.exp_avg_sq[i]);
      steps.push_back(group.steps[i]);
    }
    if (parameters.empty()) continue;
    at::_fused_adamw_(parameters, gradients, exp_avg, exp_avg_sq, {}, steps, group.lr * lr_factor, config_.beta1,
                      config_.beta2, group.weight_decay, config_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  collected_.clear();
  if (buckets_) buckets_->share_parameters();
}

NamedTensors Optimizer::moments() const {
  NamedTensors tensors;
  for_each_moment(
      [&](const std::string& name, const Group&, size_t, const Tensor& moment) { tensors.emplace_back(name, moment); });
  return tensors;
}

NamedTensors Optimizer::state() const { return is_sharded() ? collected_ : moments(); }

void Optimizer::collect_state() {
  if (!is_sharded()) return;
  collected_.clear();
  for_each_moment([&](const std::string& name, const Group& group, size_t i, const Tensor& moment) {
    const Tensor whole = at::zeros(group.parameters[i].sizes(), moment.options());
    share(group, i, whole).copy_(moment);
    comm_->sum(whole);
    if (comm_->is_first()) collected_.emplace_back(name, whole.to(at::kCPU));
  });
}

void Optimizer::load_state(const io::WeightFiles& files) {
  if (!is_sharded()) return copy_weights(moments(), files);
  const size_t expected = moments().size();
  if (files.tensors().size() != expected)
    throw Error(ExitCode::kWeights, files.path(),
                "expected " + std::to_string(expected) + " moments, got " + std::to_string(files.tensors().size()));
  for_each_moment([&](const std::string& name, const Group& group, size_t i, const Tensor& moment) {
    // One at a time: that all of them together are too large is why they are sharded.
    const Tensor whole = at::empty(group.parameters[i].sizes(), moment.options().device(at::kCPU));
    copy_weights({{name, whole}}, files,
                 [&](const std::string& stored) { return stored == name ? std::optional(stored) : std::nullopt; });
    moment.copy_(share(group, i, whole));
  });
}

void Optimizer::set_steps_done(int64_t steps) {
  for (auto& group : groups_)
    for (auto& done : group.steps) done.fill_(static_cast<double>(steps));
}

}  // namespace vlmamba
