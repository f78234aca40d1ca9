#pragma once

#include <torch/nn/module.h>

namespace vlmamba::nn {

/// y = x W^T + b. weight [out, in], bias [out] or none. Initialised as PyTorch's: U(±1/sqrt(in)).
class Linear : public torch::nn::Module {
 public:
  Linear(int64_t in, int64_t out, bool bias = true);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight, bias;
};

}  // namespace vlmamba::nn
