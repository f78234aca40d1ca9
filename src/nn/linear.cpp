#include "vlmamba/nn/linear.h"

#include <ATen/ATen.h>

#include <cmath>

#include "vlmamba/nn/parameters.h"

namespace vlmamba::nn {

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  weight = register_parameter("weight", uniform_values({out, in}, bound));
  if (with_bias) bias = register_parameter("bias", uniform_values({out}, bound));
}

at::Tensor Linear::forward(const at::Tensor& x) const { return at::linear(x, weight, bias); }

}  // namespace vlmamba::nn
