#include "vlmamba/nn/ss2d.h"

#include <ATen/ATen.h>

#include <cmath>

#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/ops/scan_order.h"
#include "vlmamba/ops/selective_scan_2d.h"

namespace vlmamba::nn {
namespace {

using at::Tensor;

constexpr double kNormEps = 1e-5;

class Conv2dParameters : public torch::nn::Module {  // conv2d.weight [D,1,3,3], conv2d.bias [D]
 public:
  explicit Conv2dParameters(int64_t channels) {
    constexpr double kBound = 1.0 / 3;  // 1 / sqrt(3 * 3)
    weight = register_parameter("weight", uniform_values({channels, 1, 3, 3}, kBound));
    bias = register_parameter("bias", uniform_values({channels}, kBound));
  }
  Tensor weight, bias;
};

}  // namespace

Ss2d::Ss2d(int64_t dim, int64_t d_state, int64_t expand, int64_t sets) : rank_((dim + 15) / 16), d_state_(d_state) {
  const int64_t inner = expand * dim;
  in_proj_ = register_module("in_proj", std::make_shared<Linear>(dim, 2 * inner, false));
  const auto conv = register_module("conv2d", std::make_shared<Conv2dParameters>(inner));
  conv_weight_ = conv->weight;
  conv_bias_ = conv->bias;
  const double x_bound = 1.0 / std::sqrt(static_cast<double>(inner)),
               dt_bound = 1.0 / std::sqrt(static_cast<double>(rank_));
  x_proj_weight_ = register_parameter("x_proj_weight", uniform_values({sets, rank_ + 2 * d_state, inner}, x_bound));
  dt_projs_weight_ = register_parameter("dt_projs_weight", uniform_values({sets, inner, rank_}, dt_bound));
  dt_projs_bias_ = register_parameter("dt_projs_bias", fp32_values({sets, inner}, [&] {
                                        return initial_dt_bias(sets * inner).view({sets, inner});
                                      }));
  A_logs_ = register_parameter(
      "A_logs", fp32_values({sets * inner, d_state}, [&] { return initial_A_log(sets * inner, d_state); }));
  Ds_ = register_parameter("Ds", fp32_values({sets * inner}, [&] { return at::ones({sets * inner}); }));
  out_norm_ = register_module("out_norm", std::make_shared<Norm>(NormKind::kLayerNorm, inner, kNormEps));
  out_proj_ = register_module("out_proj", std::make_shared<Linear>(inner, dim, false));
}

Tensor Ss2d::finish(const Tensor& y, const Tensor& z) const {
  return out_proj_->forward(out_norm_->forward(y) * at::silu(z));
}

Tensor Ss2d::forward(const Tensor& x, std::string_view scan, int64_t height, int64_t width, bool mean,
                     bool concat) const {
  const int64_t images = x.size(0), length = x.size(1);
  const auto directions = static_cast<int64_t>(ops::scan_directions(scan).size());
  const auto xz = in_proj_->forward(x).chunk(2, -1);
  const int64_t inner = xz[0].size(2);
  const Tensor map = xz[0].transpose(1, 2).reshape({images, inner, height, width});
  const Tensor u = at::silu(at::conv2d(map, conv_weight_, conv_bias_, 1, 1, 1, inner)).flatten(2).transpose(1, 2);
  const auto per_direction = [&](const Tensor& sets) {  // a set for every direction
    std::vector<int64_t> sizes(sets.sizes().begin(), sets.sizes().end());
    sizes[0] = directions;
    return sets.expand(sizes);
  };
  // One GEMM for all directions: the projections commute with the order of the pixels.
  const Tensor weight = per_direction(x_proj_weight_).flatten(0, 1);
  const auto parts = at::linear(u, weight)
                         .view({images, length, directions, rank_ + 2 * d_state_})
                         .split_with_sizes({rank_, d_state_, d_state_}, -1);
  const Tensor delta = at::einsum("blkr,kdr->blkd", {parts[0], per_direction(dt_projs_weight_)});
  const int64_t sets = x_proj_weight_.size(0);
  const Tensor A = per_direction(-at::exp(A_logs_).view({sets, inner, d_state_}));
  const Tensor D = per_direction(Ds_.view({sets, inner})), bias = per_direction(dt_projs_bias_);
  const Tensor y = ops::selective_scan_2d(u, delta, A, parts[1].unsqueeze(3), parts[2].unsqueeze(3), D, bias, true,
                                          scan, height, width, !concat);
  if (concat) return finish(y, xz[1].unsqueeze(2));
  return finish(mean ? y / static_cast<double>(directions) : y, xz[1]);
}

}  // namespace vlmamba::nn
