#include "vlmamba/model/language_model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/nn/norm.h"
#include "vlmamba/ops/rms_norm.h"

namespace vlmamba {
namespace {

using at::Tensor;
using nn::MambaMixer;
using nn::Norm;
using nn::NormKind;

constexpr double kEmbeddingStd = 0.02;

class Block : public torch::nn::Module {
 public:
  explicit Block(const LanguageModelConfig& c) {
    norm = register_module("norm", std::make_shared<Norm>(NormKind::kRmsNorm, c.hidden_size, c.norm_eps));
    mixer = register_module(
        "mixer", std::make_shared<MambaMixer>(nn::MambaShape{c.hidden_size, c.d_state, c.d_conv, c.expand, c.dt_rank}));
  }
  std::shared_ptr<Norm> norm;
  std::shared_ptr<MambaMixer> mixer;
};

class Mamba : public LanguageModel {
 public:
  explicit Mamba(const LanguageModelConfig& config) : config_(config) {
    const int64_t multiple = config.pad_vocab_multiple, rows = (config.vocab_size + multiple - 1) / multiple * multiple;
    const auto backbone = register_module("backbone", std::make_shared<torch::nn::Module>());
    const auto embeddings = backbone->register_module("embeddings", std::make_shared<torch::nn::Module>());
    embedding_ = embeddings->register_parameter("weight", at::randn({rows, config.hidden_size}).mul_(kEmbeddingStd));
    const auto layers = backbone->register_module("layers", std::make_shared<torch::nn::Module>());
    for (int64_t i = 0; i < config.num_layers; ++i)
      layers_.push_back(layers->register_module(std::to_string(i), std::make_shared<Block>(config)));
    norm_ = backbone->register_module("norm_f",
                                      std::make_shared<Norm>(NormKind::kRmsNorm, config.hidden_size, config.norm_eps));
    rescale_residual_branches();
  }

  Tensor embed(const Tensor& ids) const override { return at::embedding(embedding_, ids); }

  Tensor forward(const Tensor& embeds, const Tensor& seq_idx, Cache* cache) const override {
    if (cache) cache->layers.clear();
    Tensor hidden = embeds, residual = at::zeros({}, embeds.options()).expand_as(embeds);
    for (const auto& layer : layers_) {
      auto [normed, sum] = ops::add_rms_norm(hidden, residual, layer->norm->weight, config_.norm_eps);
      MambaMixer::State state;
      hidden = layer->mixer->forward(normed, seq_idx, cache ? &state : nullptr);
      residual = sum;
      if (cache) cache->layers.push_back({state.conv, state.ssm});
    }
    return std::get<0>(ops::add_rms_norm(hidden, residual, norm_->weight, config_.norm_eps));
  }

  Tensor step(const Tensor& embeds, Cache& cache) const override {
    Tensor hidden = embeds, residual = at::zeros_like(embeds);
    for (size_t i = 0; i < layers_.size(); ++i) {
      auto [normed, sum] = ops::add_rms_norm(hidden, residual, layers_[i]->norm->weight, config_.norm_eps);
      MambaMixer::State state{cache.layers[i][0], cache.layers[i][1]};
      hidden = layers_[i]->mixer->step(normed, state);
      residual = sum;
    }
    return std::get<0>(ops::add_rms_norm(hidden, residual, norm_->weight, config_.norm_eps));
  }

  Tensor head(const Tensor& hidden) const override {
    Tensor logits = at::linear(hidden, embedding_);
    if (embedding_.size(0) == config_.vocab_size) return logits;
    const Tensor padded = at::arange(embedding_.size(0), hidden.options().dtype(at::kLong)).ge(config_.vocab_size);
    return logits.masked_fill(padded, -std::numeric_limits<double>::infinity());
  }

  int64_t hidden_size() const override { return config_.hidden_size; }

 private:
  // mamba_ssm's rescale_prenorm_residual: out_proj is divided by the square root of the number of layers.
  void rescale_residual_branches() {
    const c10::AutoGradMode no_grad(false);
    for (const auto& layer : layers_)
      layer->mixer->named_parameters()["out_proj.weight"].div_(std::sqrt(static_cast<double>(config_.num_layers)));
  }

  LanguageModelConfig config_;
  Tensor embedding_;
  std::vector<std::shared_ptr<Block>> layers_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace

std::shared_ptr<LanguageModel> make_language_model(const LanguageModelConfig& config) {
  return std::make_shared<Mamba>(config);
}

}  // namespace vlmamba
