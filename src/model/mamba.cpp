#include <ATen/ATen.h>

#include <cmath>

#include "src/model/language_models.h"
#include "vlmamba/nn/mamba2_mixer.h"
#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/nn/recompute.h"
#include "vlmamba/ops/rms_norm.h"

namespace vlmamba {
namespace {

using at::Tensor;
using nn::Norm;
using nn::NormKind;

std::shared_ptr<nn::MambaMixer> make_mixer(const LanguageModelConfig& c, const nn::MambaMixer*) {
  return std::make_shared<nn::MambaMixer>(
      nn::MambaShape{c.hidden_size, c.d_state, c.d_conv, c.expand, c.dt_rank, c.projection_bias, c.conv_bias});
}

std::shared_ptr<nn::Mamba2Mixer> make_mixer(const LanguageModelConfig& c, const nn::Mamba2Mixer*) {
  return std::make_shared<nn::Mamba2Mixer>(nn::Mamba2Shape{
      c.hidden_size, c.d_state, c.d_conv, c.expand, c.mamba2.head_dim, c.mamba2.num_groups, c.mamba2.norm_groups,
      c.norm_eps, c.mamba2.dt_min, c.mamba2.dt_max, c.projection_bias, c.conv_bias});
}

// Blocks of a norm and a mixer, Mamba-1's or Mamba-2's, on a residual stream in fp32.
template <typename Mixer>
class Mamba : public LanguageModel {
 public:
  explicit Mamba(const LanguageModelConfig& config) : config_(config) {
    const int64_t rows = config.embedding_rows(), dim = config.hidden_size;
    const auto backbone = register_module("backbone", std::make_shared<torch::nn::Module>());
    const auto embeddings = backbone->register_module("embeddings", std::make_shared<torch::nn::Module>());
    embedding_ = embeddings->register_parameter("weight", nn::normal_values({rows, dim}, kEmbeddingStd));
    const auto layers = backbone->register_module("layers", std::make_shared<torch::nn::Module>());
    for (int64_t i = 0; i < config.num_layers; ++i)
      layers_.push_back(layers->register_module(std::to_string(i), std::make_shared<Block>(config)));
    norm_ = backbone->register_module("norm_f", std::make_shared<Norm>(NormKind::kRmsNorm, dim, config.norm_eps));
    head_ = config.tie_embeddings ? embedding_
                                  : register_module("lm_head", std::make_shared<torch::nn::Module>())
                                        ->register_parameter("weight", nn::normal_values({rows, dim}, kEmbeddingStd));
    if (nn::making_values()) rescale_residual_branches();
  }

  Tensor embed(const Tensor& ids) const override { return at::embedding(embedding_, ids); }

  Tensor forward(const Tensor& embeds, const Tensor& seq_idx, Cache* cache) const override {
    const bool continued = cache && !cache->layers.empty();
    if (cache) cache->layers.resize(layers_.size());
    Tensor hidden = embeds, residual = at::zeros({}, embeds.options()).expand_as(embeds);
    for (size_t i = 0; i < layers_.size(); ++i) {
      typename Mixer::State state;
      if (continued) state = {cache->layers[i][0], cache->layers[i][1]};
      const auto block = [this, layer = layers_[i], seq_idx](const std::vector<Tensor>& in, decltype(&state) memory) {
        Tensor sum = in[1];
        const Tensor normed = add_and_norm(in[0], sum, *layer->norm);
        return std::vector<Tensor>{layer->mixer->forward(normed, seq_idx, memory), sum};
      };
      const auto out = cache || !nn::recomputes(recompute_every, i)
                           ? block({hidden, residual}, cache ? &state : nullptr)
                           : nn::recompute({hidden, residual}, layers_[i]->parameters(),
                                           [block](const std::vector<Tensor>& in) { return block(in, nullptr); });
      hidden = out[0];
      residual = out[1];
      if (cache) cache->layers[i] = {state.conv, state.ssm};
    }
    return std::get<0>(ops::add_rms_norm(hidden, residual, norm_->weight, config_.norm_eps));
  }

  Tensor step(const Tensor& embeds, Cache& cache) const override {
    Tensor hidden = embeds, residual = at::zeros_like(embeds);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Tensor normed = add_and_norm(hidden, residual, *layers_[i]->norm);
      typename Mixer::State state{cache.layers[i][0], cache.layers[i][1]};
      hidden = layers_[i]->mixer->step(normed, state);
    }
    return std::get<0>(ops::add_rms_norm(hidden, residual, norm_->weight, config_.norm_eps));
  }

  Tensor head(const Tensor& hidden) const override { return head_logits(hidden, head_, config_.vocab_size); }

  Tensor head_weight() const override { return head_; }

  int64_t hidden_size() const override { return config_.hidden_size; }

 private:
  class Block : public torch::nn::Module {
   public:
    explicit Block(const LanguageModelConfig& c) {
      norm = register_module("norm", std::make_shared<Norm>(NormKind::kRmsNorm, c.hidden_size, c.norm_eps));
      mixer = register_module("mixer", make_mixer(c, static_cast<const Mixer*>(nullptr)));
    }
    std::shared_ptr<Norm> norm;
    std::shared_ptr<Mixer> mixer;
  };

  // residual += hidden, in fp32; gives its norm in hidden's type.
  Tensor add_and_norm(const Tensor& hidden, Tensor& residual, const Norm& norm) const {
    const auto type = hidden.scalar_type();
    if (config_.norm_rounding == nn::NormRounding::kOnce || type == at::kFloat || type == at::kDouble) {
      auto [normed, sum] = ops::add_rms_norm(hidden, residual, norm.weight, config_.norm_eps);
      residual = sum;
      return normed;
    }
    residual = residual.to(at::kFloat) + hidden;
    const Tensor x = residual.to(type).to(at::kFloat);
    const Tensor scaled = x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + config_.norm_eps);
    return norm.weight.to(type) * scaled.to(type);
  }

  // mamba_ssm's rescale_prenorm_residual: out_proj is divided by the square root of the number of layers.
  void rescale_residual_branches() {
    const c10::AutoGradMode no_grad(false);
    for (const auto& layer : layers_)
      layer->mixer->named_parameters()["out_proj.weight"].div_(std::sqrt(static_cast<double>(config_.num_layers)));
  }

  LanguageModelConfig config_;
  Tensor embedding_, head_;
  std::vector<std::shared_ptr<Block>> layers_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace

std::shared_ptr<LanguageModel> make_mamba(const LanguageModelConfig& config) {
  return std::make_shared<Mamba<nn::MambaMixer>>(config);
}

std::shared_ptr<LanguageModel> make_mamba2(const LanguageModelConfig& config) {
  return std::make_shared<Mamba<nn::Mamba2Mixer>>(config);
}

}  // namespace vlmamba
