#include "vlmamba/nn/mamba2_mixer.h"

#include <ATen/ATen.h>

#include "vlmamba/nn/parameters.h"
#include "vlmamba/nn/ssd_scan.h"
#include "vlmamba/ops/causal_conv1d.h"

namespace vlmamba::nn {
namespace {

using at::Tensor;

std::optional<Tensor> given(const Tensor& tensor) { return tensor.defined() ? std::optional(tensor) : std::nullopt; }

// The type that scans and norms compute in.
at::ScalarType wide(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace

Mamba2Mixer::Mamba2Mixer(const Mamba2Shape& shape) : shape_(shape) {
  const int64_t inner = shape.inner(), heads = shape.heads();
  in_proj_ =
      register_module("in_proj", std::make_shared<Linear>(shape.dim, inner + shape.conv_dim() + heads, shape.bias));
  const auto conv =
      register_module("conv1d", std::make_shared<Conv1dParameters>(shape.conv_dim(), shape.d_conv, shape.conv_bias));
  conv_weight_ = conv->weight;
  conv_bias_ = conv->bias;
  dt_bias_ = register_parameter("dt_bias", fp32_values({heads}, [&] { return initial_dt_bias(heads); }));
  A_log_ = register_parameter("A_log", fp32_values({heads}, [&] { return at::empty({heads}).uniform_(1, 16).log_(); }));
  D_ = register_parameter("D", fp32_values({heads}, [&] { return at::ones({heads}); }));
  norm_weight_ = register_module("norm", std::make_shared<torch::nn::Module>())
                     ->register_parameter("weight", equal_values({inner}, 1));
  out_proj_ = register_module("out_proj", std::make_shared<Linear>(inner, shape.dim, shape.bias));
}

Tensor Mamba2Mixer::step_sizes(const Tensor& dt) const {
  const Tensor steps = at::softplus(dt.to(wide(dt)) + dt_bias_);
  return shape_.dt_max ? steps.clamp(shape_.dt_min, *shape_.dt_max) : steps.clamp_min(shape_.dt_min);
}

// y [..., inner] in fp32, z [..., inner]: the gated norm, rounded once, and out_proj.
Tensor Mamba2Mixer::finish(const Tensor& y, const Tensor& z) const {
  const Tensor gated = (y * at::silu(z.to(y.scalar_type()))).unflatten(-1, {shape_.norm_groups, -1});
  const Tensor normed = gated * at::rsqrt(gated.square().mean(-1, /*keepdim=*/true) + shape_.norm_eps);
  return out_proj_->forward((normed.flatten(-2) * norm_weight_).to(z.scalar_type()));
}

Tensor Mamba2Mixer::forward(const Tensor& x, const Tensor& seq_idx, State* state) const {
  const int64_t inner = shape_.inner(), heads = shape_.heads(), bc = shape_.num_groups * shape_.d_state;
  const auto parts = in_proj_->forward(x).split_with_sizes({inner, shape_.conv_dim(), heads}, -1);
  auto [convolved, conv] = ops::causal_conv1d(parts[1], conv_weight_.squeeze(1), given(conv_bias_),
                                              given(state ? state->conv : Tensor()), given(seq_idx), "silu");
  const auto xbc = convolved.split_with_sizes({inner, bc, bc}, -1);
  auto [y, ssm] =
      ssd_scan(xbc[0].unflatten(-1, {heads, shape_.head_dim}), step_sizes(parts[2]), -at::exp(A_log_),
               xbc[1].unflatten(-1, {shape_.num_groups, shape_.d_state}),
               xbc[2].unflatten(-1, {shape_.num_groups, shape_.d_state}), D_, state ? state->ssm : Tensor(), seq_idx);
  if (state) *state = {conv, ssm};
  return finish(y.flatten(-2), parts[0]);
}

Tensor Mamba2Mixer::step(const Tensor& x, State& state) const {
  const c10::AutoGradMode no_grad(false);
  const int64_t inner = shape_.inner(), heads = shape_.heads(), bc = shape_.num_groups * shape_.d_state;
  const auto type = wide(x);
  const auto parts = in_proj_->forward(x).split_with_sizes({inner, shape_.conv_dim(), heads}, -1);
  const auto xbc = ops::causal_conv1d_update(parts[1], state.conv, conv_weight_.squeeze(1), given(conv_bias_), "silu")
                       .to(type)
                       .split_with_sizes({inner, bc, bc}, -1);
  const auto per_head = [&](const Tensor& groups) {  // [B,G*N] -> [B,H,N]
    return groups.unflatten(-1, {shape_.num_groups, shape_.d_state}).repeat_interleave(heads / shape_.num_groups, 1);
  };
  const Tensor u = xbc[0].unflatten(-1, {heads, shape_.head_dim}), dt = step_sizes(parts[2]);  // [B,H,P], [B,H]
  const Tensor decay = (dt * -at::exp(A_log_)).exp();
  state.ssm.mul_(decay.unsqueeze(-1).unsqueeze(-1))
      .add_((u * dt.unsqueeze(-1)).unsqueeze(-1) * per_head(xbc[1]).unsqueeze(-2));
  const Tensor y = state.ssm.matmul(per_head(xbc[2]).unsqueeze(-1)).squeeze(-1) + u * D_.unsqueeze(-1);
  return finish(y.flatten(-2), parts[0]);
}

}  // namespace vlmamba::nn
