#include "vlmamba/model/vision_encoder.h"

#include <ATen/ATen.h>

#include <vector>

#include "vlmamba/core/error.h"
#include "vlmamba/nn/linear.h"
#include "vlmamba/nn/norm.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/nn/recompute.h"

namespace vlmamba {
namespace {

using at::Tensor;
using nn::Linear;
using nn::Norm;
using nn::NormKind;

constexpr double kInitialStd = 0.02;

class Attention : public torch::nn::Module {
 public:
  Attention(int64_t dim, int64_t heads) : heads_(heads) {
    k_ = register_module("k_proj", std::make_shared<Linear>(dim, dim));
    v_ = register_module("v_proj", std::make_shared<Linear>(dim, dim));
    q_ = register_module("q_proj", std::make_shared<Linear>(dim, dim));
    out_ = register_module("out_proj", std::make_shared<Linear>(dim, dim));
  }

  Tensor forward(const Tensor& x) const {
    const auto split = [&](const Linear& projection) {  // [I,T,D] -> [I,heads,T,D/heads]
      return projection.forward(x).unflatten(-1, {heads_, x.size(2) / heads_}).transpose(1, 2);
    };
    return out_->forward(
        at::scaled_dot_product_attention(split(*q_), split(*k_), split(*v_)).transpose(1, 2).flatten(2));
  }

 private:
  int64_t heads_;
  std::shared_ptr<Linear> q_, k_, v_, out_;
};

class Mlp : public torch::nn::Module {
 public:
  explicit Mlp(const VisionEncoderConfig& config) : activation_(config.used_activation()) {
    fc1_ = register_module("fc1", std::make_shared<Linear>(config.hidden_size, config.intermediate_size));
    fc2_ = register_module("fc2", std::make_shared<Linear>(config.intermediate_size, config.hidden_size));
  }

  Tensor forward(const Tensor& x) const { return fc2_->forward(nn::activate(fc1_->forward(x), activation_)); }

 private:
  nn::Activation activation_;
  std::shared_ptr<Linear> fc1_, fc2_;
};

class Layer : public torch::nn::Module {
 public:
  Layer(const VisionEncoderConfig& config, double eps) {
    norm1_ = register_module("layer_norm1", std::make_shared<Norm>(NormKind::kLayerNorm, config.hidden_size, eps));
    attention_ = register_module("self_attn", std::make_shared<Attention>(config.hidden_size, config.num_heads));
    norm2_ = register_module("layer_norm2", std::make_shared<Norm>(NormKind::kLayerNorm, config.hidden_size, eps));
    mlp_ = register_module("mlp", std::make_shared<Mlp>(config));
  }

  Tensor forward(const Tensor& x) const {
    const Tensor attended = x + attention_->forward(norm1_->forward(x));
    return attended + mlp_->forward(norm2_->forward(attended));
  }

 private:
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Mlp> mlp_;
};

// HF's names below `vision_model.`: embeddings.*, pre_layrnorm.* (its spelling), encoder.layers.*.
class Embeddings : public torch::nn::Module {
 public:
  Embeddings(const VisionEncoderConfig& c, int64_t patches) : patch_size_(c.patch_size) {
    const bool clip = c.kind == VisionKind::kClip;
    if (clip) class_embedding_ = register_parameter("class_embedding", nn::normal_values({c.hidden_size}, kInitialStd));
    const auto patch = register_module("patch_embedding", std::make_shared<torch::nn::Module>());
    weight_ = patch->register_parameter("weight",
                                        nn::normal_values({c.hidden_size, 3, c.patch_size, c.patch_size}, kInitialStd));
    if (!clip) bias_ = patch->register_parameter("bias", nn::equal_values({c.hidden_size}, 0));
    const auto position = register_module("position_embedding", std::make_shared<torch::nn::Module>());
    position_ = position->register_parameter("weight",
                                             nn::normal_values({patches + (clip ? 1 : 0), c.hidden_size}, kInitialStd));
  }

  Tensor forward(const Tensor& pixels) const {
    Tensor x = at::conv2d(pixels, weight_, bias_, patch_size_).flatten(2).transpose(1, 2);
    if (class_embedding_.defined()) x = at::cat({class_embedding_.expand({x.size(0), 1, -1}), x}, 1);
    return x + position_;
  }

 private:
  int64_t patch_size_;
  Tensor class_embedding_, weight_, bias_, position_;
};

class VisionTransformer : public VisionEncoder {
 public:
  explicit VisionTransformer(const VisionEncoderConfig& config)
      : config_(config), grid_(config.image_size / config.patch_size), used_layers_(config.used_layers()) {
    const bool clip = config.kind == VisionKind::kClip;
    const double eps = config.used_eps();
    embeddings_ = register_module("embeddings", std::make_shared<Embeddings>(config, grid_ * grid_));
    if (clip)
      pre_norm_ =
          register_module("pre_layrnorm", std::make_shared<Norm>(NormKind::kLayerNorm, config.hidden_size, eps));
    const auto encoder = register_module("encoder", std::make_shared<torch::nn::Module>());
    const auto layers = encoder->register_module("layers", std::make_shared<torch::nn::Module>());
    for (int64_t i = 0; i < used_layers_; ++i)
      layers_.push_back(layers->register_module(std::to_string(i), std::make_shared<Layer>(config, eps)));
  }

  Tensor forward(const Tensor& pixel_values) override {
    Tensor x = embeddings_->forward(pixel_values);
    if (pre_norm_) x = pre_norm_->forward(x);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto block = [layer = layers_[i]](const std::vector<Tensor>& in) {
        return std::vector<Tensor>{layer->forward(in[0])};
      };
      x = nn::recomputes(recompute_every, i) ? nn::recompute({x}, layers_[i]->parameters(), block)[0] : block({x})[0];
    }
    return config_.kind == VisionKind::kClip ? x.slice(1, 1) : x;
  }

  int64_t grid_height() const override { return grid_; }
  int64_t grid_width() const override { return grid_; }
  int64_t feature_dim() const override { return config_.hidden_size; }

 private:
  VisionEncoderConfig config_;
  int64_t grid_, used_layers_;
  std::shared_ptr<Embeddings> embeddings_;
  std::shared_ptr<Norm> pre_norm_;
  std::vector<std::shared_ptr<Layer>> layers_;
};

}  // namespace

// hidden_states has num_layers + 1 entries: the embeddings, then each block's output.
int64_t VisionEncoderConfig::used_layers() const {
  const int64_t layer = feature_layer < 0 ? num_layers + 1 + feature_layer : feature_layer;
  if (layer < 0 || layer > num_layers)
    throw Error(ExitCode::kUsage, "model.vision_encoder.feature_layer",
                "expected an index into " + std::to_string(num_layers + 1) + " hidden states, got " +
                    std::to_string(feature_layer));
  return layer;
}

std::shared_ptr<VisionEncoder> make_vision_encoder(const VisionEncoderConfig& config) {
  if (config.patch_size > config.image_size)
    throw Error(ExitCode::kUsage, "model.vision_encoder.patch_size",
                "expected at most image_size (" + std::to_string(config.image_size) + "), got " +
                    std::to_string(config.patch_size));
  if (config.hidden_size % config.num_heads != 0)
    throw Error(ExitCode::kUsage, "model.vision_encoder.num_heads",
                "expected a divisor of hidden_size (" + std::to_string(config.hidden_size) + "), got " +
                    std::to_string(config.num_heads));
  return std::make_shared<VisionTransformer>(config);
}

}  // namespace vlmamba
