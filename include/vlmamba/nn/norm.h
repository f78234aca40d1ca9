#pragma once

#include <torch/nn/module.h>

#include <array>
#include <memory>

#include "vlmamba/core/fields.h"

namespace vlmamba::nn {

enum class NormKind { kLayerNorm, kRmsNorm };
constexpr auto enum_names(NormKind) {
  return std::array{EnumName<NormKind>{NormKind::kLayerNorm, "layernorm"},
                    EnumName<NormKind>{NormKind::kRmsNorm, "rmsnorm"}};
}

/// What an RMSNorm in less than fp32 rounds: its result alone, as mamba_ssm does, or, as Hugging Face does, its input,
/// the normalised input, and the result.
enum class NormRounding { kOnce, kBeforeWeight };
constexpr auto enum_names(NormRounding) {
  return std::array{EnumName<NormRounding>{NormRounding::kOnce, "once"},
                    EnumName<NormRounding>{NormRounding::kBeforeWeight, "before_weight"}};
}

/// LayerNorm (weight, bias) or RMSNorm (weight) over the last dimension. x [..., D].
class Norm : public torch::nn::Module {
 public:
  Norm(NormKind kind, int64_t dim, double eps);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight, bias;

 private:
  NormKind kind_;
  double eps_;
};

}  // namespace vlmamba::nn
