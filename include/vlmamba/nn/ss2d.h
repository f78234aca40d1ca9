#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string_view>

#include "vlmamba/nn/linear.h"
#include "vlmamba/nn/norm.h"

namespace vlmamba::nn {

/// VMamba's first SS2D block (v0) with its parameter names: depthwise 3x3 convolution and SiLU, projections per
/// direction, scan, then per direction LayerNorm, SiLU gate and output projection are applied after `merge`.
class Ss2d : public torch::nn::Module {
 public:
  /// `sets` is K, or 1 for parameters that all directions share.
  Ss2d(int64_t dim, int64_t d_state, int64_t expand, int64_t sets);

  /// x [I,P,dim] -> merged over directions [I,P,dim] (`mean` divides the sum by K), or with concat every direction's
  /// output [I,P,K,dim].
  at::Tensor forward(const at::Tensor& x, std::string_view scan, int64_t height, int64_t width, bool mean,
                     bool concat) const;

 private:
  at::Tensor finish(const at::Tensor& y, const at::Tensor& z) const;

  int64_t rank_, d_state_;
  std::shared_ptr<Linear> in_proj_, out_proj_;
  std::shared_ptr<Norm> out_norm_;
  at::Tensor conv_weight_, conv_bias_, x_proj_weight_, dt_projs_weight_, dt_projs_bias_, A_logs_, Ds_;
};

}  // namespace vlmamba::nn
