#include "vlmamba/nn/mamba_mixer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "vlmamba/nn/parameters.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/selective_scan.h"
#include "vlmamba/ops/selective_scan_2d.h"
#include "vlmamba/ops/selective_state_update.h"

namespace vlmamba::nn {

using at::Tensor;

namespace {

std::optional<Tensor> given(const Tensor& tensor) { return tensor.defined() ? std::optional(tensor) : std::nullopt; }

}  // namespace

Conv1dParameters::Conv1dParameters(int64_t channels, int64_t taps, bool with_bias) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(taps));
  weight = register_parameter("weight", uniform_values({channels, 1, taps}, bound));
  if (with_bias) bias = register_parameter("bias", uniform_values({channels}, bound));
}

Tensor initial_dt_bias(int64_t count) {
  const double low = std::log(0.001), high = std::log(0.1);
  const Tensor dt = at::exp(at::rand({count}) * (high - low) + low).clamp_min(1e-4);
  return dt + at::log(-at::expm1(-dt));  // softplus^-1
}

Tensor initial_A_log(int64_t channels, int64_t d_state) {
  return at::log(at::arange(1, d_state + 1).to(at::kFloat)).expand({channels, d_state}).clone();
}

MambaMixer::MambaMixer(const MambaShape& shape, bool scan_only) : shape_(shape) {
  const int64_t inner = shape.inner(), rank = shape.rank(), n = shape.d_state;
  if (!scan_only) in_proj_ = register_module("in_proj", std::make_shared<Linear>(shape.dim, 2 * inner, shape.bias));
  const auto conv = register_module("conv1d", std::make_shared<Conv1dParameters>(inner, shape.d_conv, shape.conv_bias));
  conv_weight_ = conv->weight;
  conv_bias_ = conv->bias;
  x_proj_ = register_module("x_proj", std::make_shared<Linear>(inner, rank + 2 * n, false));
  dt_proj_ = register_module("dt_proj", std::make_shared<Linear>(rank, inner));
  if (!scan_only) out_proj_ = register_module("out_proj", std::make_shared<Linear>(inner, shape.dim, shape.bias));
  A_log_ = register_parameter("A_log", fp32_values({inner, n}, [&] { return initial_A_log(inner, n); }));
  D_ = register_parameter("D", fp32_values({inner}, [&] { return at::ones({inner}); }));
  const c10::AutoGradMode no_grad(false);
  const double bound = 1.0 / std::sqrt(static_cast<double>(rank));
  if (making_values()) dt_proj_->weight.uniform_(-bound, bound);
  dt_proj_->bias.set_data(fp32_values({inner}, [&] { return initial_dt_bias(inner); }).to(dt_proj_->bias.device()));
}

MambaMixer::Projected MambaMixer::project(const Tensor& u) const {
  const auto parts = x_proj_->forward(u).split_with_sizes({shape_.rank(), shape_.d_state, shape_.d_state}, -1);
  return {dt_proj_->product(parts[0]), parts[1].unsqueeze(-2), parts[2].unsqueeze(-2)};
}

Tensor MambaMixer::forward(const Tensor& x, const Tensor& seq_idx, State* state) const {
  const auto runs = given(seq_idx);
  const auto xz = in_proj_->forward(x).chunk(2, -1);
  auto [u, conv] = ops::causal_conv1d(xz[0], conv_weight_.squeeze(1), given(conv_bias_),
                                      given(state ? state->conv : Tensor()), runs, "silu");
  const auto p = project(u);
  auto [y, ssm] = ops::selective_scan(u, p.delta, -at::exp(A_log_), p.B, p.C, D_, xz[1], dt_proj_->bias, true,
                                      given(state ? state->ssm : Tensor()), runs);
  if (state) *state = {conv, ssm};
  return out_proj_->forward(y);
}

Tensor MambaMixer::step(const Tensor& x, State& state) const {
  const c10::AutoGradMode no_grad(false);
  const auto xz = in_proj_->forward(x).chunk(2, -1);
  const Tensor u = ops::causal_conv1d_update(xz[0], state.conv, conv_weight_.squeeze(1), given(conv_bias_), "silu");
  const auto p = project(u);
  const Tensor y =
      ops::selective_state_update(state.ssm, u, p.delta, -at::exp(A_log_), p.B, p.C, D_, xz[1], dt_proj_->bias, true);
  return out_proj_->forward(y);
}

Tensor MambaMixer::forward_2d(const Tensor& x, const std::vector<const MambaMixer*>& own, std::string_view scan,
                              int64_t height, int64_t width) const {
  const auto xz = in_proj_->forward(x).chunk(2, -1);
  std::vector<Tensor> weights, biases, delta, B, C, A, D, dt_bias;
  for (const MambaMixer* mixer : own) {
    weights.push_back(mixer->conv_weight_.squeeze(1));
    biases.push_back(mixer->conv_bias_);
  }
  const Tensor u = ops::causal_conv1d_2d(xz[0], at::stack(weights), at::stack(biases), scan, height, width, "silu");
  for (size_t k = 0; k < own.size(); ++k) {
    const auto p = own[k]->project(u.select(2, static_cast<int64_t>(k)));
    delta.push_back(p.delta);
    B.push_back(p.B);
    C.push_back(p.C);
    A.push_back(-at::exp(own[k]->A_log_));
    D.push_back(own[k]->D_);
    dt_bias.push_back(own[k]->dt_proj_->bias);
  }
  const Tensor y = ops::selective_scan_2d(u, at::stack(delta, 2), at::stack(A), at::stack(B, 2), at::stack(C, 2),
                                          at::stack(D), at::stack(dt_bias), true, scan, height, width, /*merge=*/false);
  return out_proj_->forward(y * at::silu(xz[1]).unsqueeze(2));
}

}  // namespace vlmamba::nn
