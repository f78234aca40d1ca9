#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "vlmamba/core/fields.h"

namespace vlmamba::nn {

/// By the names that Hugging Face's configs use.
enum class Activation { kGelu, kGeluTanh, kGeluNew, kQuickGelu, kRelu, kSilu };
constexpr auto enum_names(Activation) {
  return std::array{EnumName<Activation>{Activation::kGelu, "gelu"},
                    EnumName<Activation>{Activation::kGeluTanh, "gelu_pytorch_tanh"},
                    EnumName<Activation>{Activation::kGeluNew, "gelu_new"},
                    EnumName<Activation>{Activation::kQuickGelu, "quick_gelu"},
                    EnumName<Activation>{Activation::kRelu, "relu"},
                    EnumName<Activation>{Activation::kSilu, "silu"}};
}

/// gelu with erf; gelu_pytorch_tanh and gelu_new: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); quick_gelu:
/// x sigmoid(1.702 x).
at::Tensor activate(const at::Tensor& x, Activation activation);

}  // namespace vlmamba::nn
