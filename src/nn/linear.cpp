#include "vlmamba/nn/linear.h"

#include <ATen/ATen.h>

#include <cmath>

namespace vlmamba::nn {

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  weight = register_parameter("weight", at::empty({out, in}).uniform_(-bound, bound));
  if (with_bias) bias = register_parameter("bias", at::empty({out}).uniform_(-bound, bound));
}

at::Tensor Linear::forward(const at::Tensor& x) const { return at::linear(x, weight, bias); }

}  // namespace vlmamba::nn
