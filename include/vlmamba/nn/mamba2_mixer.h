#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "vlmamba/nn/linear.h"
#include "vlmamba/nn/mamba_mixer.h"

namespace vlmamba::nn {

/// Sizes of one Mamba-2 layer (arXiv 2405.21060).
struct Mamba2Shape {
  int64_t dim = 0;  ///< D_model
  int64_t d_state = 128;
  int64_t d_conv = 4;
  int64_t expand = 2;
  int64_t head_dim = 64;
  int64_t num_groups = 1;   ///< of B and C
  int64_t norm_groups = 1;  ///< groups of channels that the gated norm normalises apart
  double norm_eps = 1e-5;
  double dt_min = 0;             ///< the step size, after softplus, is clamped to these
  std::optional<double> dt_max;  ///< none: no limit
  bool bias = false;             ///< of in_proj and out_proj
  bool conv_bias = true;

  int64_t inner() const { return expand * dim; }
  int64_t heads() const { return inner() / head_dim; }
  int64_t conv_dim() const { return inner() + 2 * num_groups * d_state; }
};

/// Mamba-2's layer, parameters named and laid out as in the official checkpoints: in_proj rows [z ; x ; B ; C ; dt],
/// conv1d over [x ; B ; C], dt_bias, A_log, D [H], norm.weight: RMSNorm(y * silu(z)), out_proj.
class Mamba2Mixer : public torch::nn::Module {
 public:
  explicit Mamba2Mixer(const Mamba2Shape& shape);

  /// conv [B, W-1, conv_dim] and ssm [B,H,P,N] (fp32).
  using State = MambaMixer::State;

  /// x [B,L,dim] -> [B,L,dim]. seq_idx [B,L] int32 or undefined. `state`, if given, is read where its tensors are
  /// defined, and left as it is after the last position.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& seq_idx = {}, State* state = nullptr) const;

  /// One position: x [B,dim] -> [B,dim]; updates `state` in place. Without gradients.
  at::Tensor step(const at::Tensor& x, State& state) const;

 private:
  at::Tensor step_sizes(const at::Tensor& dt) const;
  at::Tensor finish(const at::Tensor& y, const at::Tensor& z) const;

  Mamba2Shape shape_;
  std::shared_ptr<Linear> in_proj_, out_proj_;
  at::Tensor conv_weight_, conv_bias_, dt_bias_, A_log_, D_, norm_weight_;
};

}  // namespace vlmamba::nn
