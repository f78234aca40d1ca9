#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <functional>
#include <optional>

namespace vlmamba::nn {

/// While one lives, modules that this thread builds get parameters of this type on this device that hold no values yet:
/// weights are about to be copied into them. Parameters that must keep fp32 do. No random number is drawn.
class WithoutValues {
 public:
  explicit WithoutValues(at::ScalarType type, at::Device device = at::kCPU);
  ~WithoutValues();
  WithoutValues(const WithoutValues&) = delete;
  WithoutValues& operator=(const WithoutValues&) = delete;

 private:
  std::optional<at::TensorOptions> before_;
};

/// New parameters: uniform in ±bound, normal, or all the same.
at::Tensor uniform_values(at::IntArrayRef sizes, double bound);
at::Tensor normal_values(at::IntArrayRef sizes, double std);
at::Tensor equal_values(at::IntArrayRef sizes, double value);
/// A new parameter that keeps fp32 whatever the model's type: what `make` gives, of these sizes.
at::Tensor fp32_values(at::IntArrayRef sizes, const std::function<at::Tensor()>& make);

/// Whether parameters are being given values.
bool making_values();

}  // namespace vlmamba::nn
