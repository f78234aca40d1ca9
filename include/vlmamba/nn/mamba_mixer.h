#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string_view>
#include <vector>

#include "vlmamba/nn/linear.h"

namespace vlmamba::nn {

/// Sizes of one Mamba-1 layer (arXiv 2312.00752).
struct MambaShape {
  int64_t dim = 0;  ///< D_model
  int64_t d_state = 16;
  int64_t d_conv = 4;
  int64_t expand = 2;
  int64_t dt_rank = 0;  ///< 0: ceil(dim / 16)
  bool bias = false;    ///< of in_proj and out_proj
  bool conv_bias = true;

  int64_t inner() const { return expand * dim; }
  int64_t rank() const { return dt_rank > 0 ? dt_rank : (dim + 15) / 16; }
};

/// dt_proj.bias such that softplus(bias) is log-uniform in 0.001 .. 0.1, as mamba_ssm draws it. [count]
at::Tensor initial_dt_bias(int64_t count);
/// log(1 .. N) for each channel: [D,N].
at::Tensor initial_A_log(int64_t channels, int64_t d_state);

/// nn::Conv1d's place in the official names: conv1d.weight [D,1,W], conv1d.bias [D] or none.
class Conv1dParameters : public torch::nn::Module {
 public:
  Conv1dParameters(int64_t channels, int64_t taps, bool with_bias);
  at::Tensor weight, bias;
};

/// Mamba-1's layer, parameters named and laid out as in the official checkpoints: in_proj rows [x ; z], conv1d
/// [D,1,W], x_proj rows [dt ; B ; C], dt_proj whose bias is added inside the scan, A_log, D, out_proj.
class MambaMixer : public torch::nn::Module {
 public:
  /// `scan_only` leaves out in_proj and out_proj: the own parameters of one direction for another mixer's forward_2d.
  explicit MambaMixer(const MambaShape& shape, bool scan_only = false);

  /// What one sequence must remember: conv [B, W-1, D] and ssm [B, D, N] (fp32).
  struct State {
    at::Tensor conv, ssm;
  };

  /// x [B,L,dim] -> [B,L,dim]. seq_idx [B,L] int32 or undefined. `state`, if given, is read where its tensors are
  /// defined, and left as it is after the last position.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& seq_idx = {}, State* state = nullptr) const;

  /// One position: x [B,dim] -> [B,dim]; updates `state` in place. Without gradients.
  at::Tensor step(const at::Tensor& x, State& state) const;

  /// The layer along every direction of a map, in place (see ops/selective_scan_2d.h): x [B,L,dim] -> every
  /// direction's output [B,L,K,dim] with own set of scan parameters per direction k: `own[k]` (this, if shared).
  at::Tensor forward_2d(const at::Tensor& x, const std::vector<const MambaMixer*>& own, std::string_view scan,
                        int64_t height, int64_t width) const;

  const MambaShape& shape() const { return shape_; }

 private:
  struct Projected {
    at::Tensor delta, B, C;  // [..., D], [..., 1, N]
  };
  Projected project(const at::Tensor& u) const;

  MambaShape shape_;
  std::shared_ptr<Linear> in_proj_, x_proj_, out_proj_;
  std::shared_ptr<Linear> dt_proj_;
  at::Tensor conv_weight_, conv_bias_, A_log_, D_;
};

}  // namespace vlmamba::nn
