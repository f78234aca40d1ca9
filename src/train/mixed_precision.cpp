#include "vlmamba/train/mixed_precision.h"

#include <ATen/ATen.h>

#include "vlmamba/nn/autocast.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {

at::ScalarType scalar_type(Precision precision) {
  return precision == Precision::kBfloat16 ? at::kBFloat16 : at::kFloat;
}

VlMamba::Loss loss_in(Precision precision, const VlMamba& model, const Batch& batch) {
  const nn::Autocast autocast(model.device().type(), scalar_type(precision));
  return model.loss(batch);
}

bool can_be_halved(const std::string& name, const at::Tensor& parameter) {
  return is_decayed(name, parameter) && name.find("position_embedding") == std::string::npos;
}

FrozenWeights::FrozenWeights(torch::nn::Module& model, Precision precision) {
  if (precision == Precision::kFloat32) return;
  const c10::AutoGradMode no_grad(false);
  const auto type = scalar_type(precision);
  for (const auto& named : model.named_parameters()) {
    at::Tensor parameter = named.value();
    if (parameter.requires_grad() || !can_be_halved(named.key(), parameter) || parameter.scalar_type() == type)
      continue;
    const auto options = parameter.options();
    const at::Tensor full = parameter.detach().to(options.dtype()), rounded = full.to(type);
    const bool lossless = full.is_meta() || rounded.to(full.scalar_type()).equal(full);
    weights_.push_back({parameter, rounded, lossless ? at::Tensor() : full.to(at::kCPU), options});
    parameter.set_data(rounded);
  }
}

FrozenWeights::~FrozenWeights() {
  for (auto& weight : weights_)
    weight.parameter.set_data(weight.full.defined() ? weight.full.to(weight.options.device())
                                                    : weight.rounded.to(weight.options));
}

FrozenWeights::Unrounded::Unrounded(FrozenWeights& frozen) : frozen_(frozen) {
  for (auto& weight : frozen_.weights_)
    if (weight.full.defined()) weight.parameter.set_data(weight.full);
}

FrozenWeights::Unrounded::~Unrounded() {
  for (auto& weight : frozen_.weights_) weight.parameter.set_data(weight.rounded);
}

}  // namespace vlmamba
