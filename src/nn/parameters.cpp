#include "vlmamba/nn/parameters.h"

#include <ATen/ATen.h>

#include <optional>

namespace vlmamba::nn {
namespace {

thread_local std::optional<at::TensorOptions> without_values;

at::Tensor empty_or(at::IntArrayRef sizes, const std::function<at::Tensor()>& make) {
  return without_values ? at::empty(sizes, *without_values) : make();
}

}  // namespace

WithoutValues::WithoutValues(at::ScalarType type, at::Device device) : before_(without_values) {
  without_values = at::TensorOptions(type).device(device);
}

WithoutValues::~WithoutValues() { without_values = before_; }

at::Tensor uniform_values(at::IntArrayRef sizes, double bound) {
  return empty_or(sizes, [&] { return at::empty(sizes).uniform_(-bound, bound); });
}

at::Tensor normal_values(at::IntArrayRef sizes, double std) {
  return empty_or(sizes, [&] { return at::randn(sizes).mul_(std); });
}

at::Tensor equal_values(at::IntArrayRef sizes, double value) {
  return empty_or(sizes, [&] { return at::full(sizes, value, at::kFloat); });
}

at::Tensor fp32_values(at::IntArrayRef sizes, const std::function<at::Tensor()>& make) {
  return without_values ? at::empty(sizes, without_values->dtype(at::kFloat)) : make();
}

bool making_values() { return !without_values; }

}  // namespace vlmamba::nn
