#include "vlmamba/nn/norm.h"

#include <ATen/ATen.h>

#include "vlmamba/nn/parameters.h"
#include "vlmamba/ops/rms_norm.h"

namespace vlmamba::nn {

Norm::Norm(NormKind kind, int64_t dim, double eps) : kind_(kind), eps_(eps) {
  weight = register_parameter("weight", equal_values({dim}, 1));
  if (kind == NormKind::kLayerNorm) bias = register_parameter("bias", equal_values({dim}, 0));
}

at::Tensor Norm::forward(const at::Tensor& x) const {
  if (kind_ == NormKind::kRmsNorm) return ops::rms_norm(x, weight, eps_);
  return at::layer_norm(x, weight.sizes(), weight, bias, eps_);
}

}  // namespace vlmamba::nn
