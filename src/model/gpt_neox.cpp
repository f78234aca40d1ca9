#include <ATen/ATen.h>

#include <vector>

#include "src/model/language_models.h"
#include "vlmamba/nn/linear.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/nn/recompute.h"

namespace vlmamba {
namespace {

using at::Tensor;
using nn::Linear;
using nn::Norm;
using nn::NormKind;

// Where the positions of a batch stand in their runs, and whom each may look at.
struct Places {
  Tensor cos, sin;           // [B,1,L,R]
  Tensor mask;               // bool [B,1,L,S], or undefined: causal
  std::vector<Tensor> seen;  // of a step, instead of the mask: which of the S positions each row sees
};

// Rotates the first R channels of each head: pairs (i, i + R/2), as Hugging Face lays them out.
Tensor rotate(const Tensor& x, const Places& places) {
  const int64_t rotated = places.cos.size(-1);
  if (rotated == 0) return x;
  const Tensor head = x.slice(-1, 0, rotated);
  const auto halves = head.chunk(2, -1);
  const Tensor turned = head * places.cos + at::cat({-halves[1], halves[0]}, -1) * places.sin;
  return at::cat({turned, x.slice(-1, rotated)}, -1);
}

class Attention : public torch::nn::Module {
 public:
  explicit Attention(const LanguageModelConfig& c) : heads_(c.gpt_neox.num_heads) {
    const bool bias = c.gpt_neox.attention_bias;
    qkv_ = register_module("query_key_value", std::make_shared<Linear>(c.hidden_size, 3 * c.hidden_size, bias));
    dense_ = register_module("dense", std::make_shared<Linear>(c.hidden_size, c.hidden_size, bias));
  }

  // `memory`: keys and values [B,heads,S,D/heads] of earlier positions; this call's are added.
  Tensor forward(const Tensor& x, const Places& places, std::vector<Tensor>* memory) const {
    const auto qkv = qkv_->forward(x).unflatten(-1, {heads_, -1}).transpose(1, 2).chunk(3, -1);
    const Tensor q = rotate(qkv[0], places);
    Tensor k = rotate(qkv[1], places), v = qkv[2];
    if (memory && !memory->empty()) {
      k = at::cat({(*memory)[0], k}, 2);
      v = at::cat({(*memory)[1], v}, 2);
    }
    if (memory) *memory = {k, v};
    if (!places.seen.empty()) return dense_->forward(attend_apart(q, k, v, places.seen).transpose(1, 2).flatten(2));
    const auto mask = places.mask.defined() ? std::optional(places.mask) : std::nullopt;
    return dense_->forward(at::scaled_dot_product_attention(q, k, v, mask, 0, /*is_causal=*/!mask && q.size(2) > 1)
                               .transpose(1, 2)
                               .flatten(2));
  }

 private:
  // Each row on its own over the positions that it sees: what comes out does not depend on its neighbours.
  static Tensor attend_apart(const Tensor& q, const Tensor& k, const Tensor& v, const std::vector<Tensor>& seen) {
    std::vector<Tensor> rows;
    for (size_t row = 0; row < seen.size(); ++row) {
      const auto of_row = [&](const Tensor& tensor) { return tensor.narrow(0, static_cast<int64_t>(row), 1); };
      rows.push_back(at::scaled_dot_product_attention(of_row(q), of_row(k).index_select(2, seen[row]),
                                                      of_row(v).index_select(2, seen[row])));
    }
    return at::cat(rows);
  }

  int64_t heads_;
  std::shared_ptr<Linear> qkv_, dense_;
};

class Layer : public torch::nn::Module {
 public:
  explicit Layer(const LanguageModelConfig& c) : config_(c.gpt_neox) {
    const auto norm = [&] { return std::make_shared<Norm>(NormKind::kLayerNorm, c.hidden_size, c.norm_eps); };
    norm1_ = register_module("input_layernorm", norm());
    norm2_ = register_module("post_attention_layernorm", norm());
    attention_ = register_module("attention", std::make_shared<Attention>(c));
    const auto mlp = register_module("mlp", std::make_shared<torch::nn::Module>());
    up_ = mlp->register_module("dense_h_to_4h", std::make_shared<Linear>(c.hidden_size, config_.intermediate_size));
    down_ = mlp->register_module("dense_4h_to_h", std::make_shared<Linear>(config_.intermediate_size, c.hidden_size));
  }

  Tensor forward(const Tensor& x, const Places& places, std::vector<Tensor>* memory) const {
    const auto mlp = [&](const Tensor& h) {
      return down_->forward(nn::activate(up_->forward(norm2_->forward(h)), config_.activation));
    };
    const Tensor attended = attention_->forward(norm1_->forward(x), places, memory);
    if (config_.parallel_residual) return mlp(x) + attended + x;
    const Tensor sum = attended + x;
    return mlp(sum) + sum;
  }

 private:
  GptNeoxConfig config_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Linear> up_, down_;
};

// The Transformer of Pythia (arXiv 2304.01373): the control of the published Mamba comparisons. In the cache, each
// layer holds keys and values [B,heads,S,D/heads], and the first one also which of the S positions the next one sees
// (bool [B,S]) and where it stands (int64 [B]).
class GptNeox : public LanguageModel {
 public:
  explicit GptNeox(const LanguageModelConfig& config) : config_(config) {
    const int64_t rows = config.embedding_rows(), dim = config.hidden_size;
    const auto body = register_module("gpt_neox", std::make_shared<torch::nn::Module>());
    embedding_ = body->register_module("embed_in", std::make_shared<torch::nn::Module>())
                     ->register_parameter("weight", nn::normal_values({rows, dim}, kEmbeddingStd));
    const auto layers = body->register_module("layers", std::make_shared<torch::nn::Module>());
    for (int64_t i = 0; i < config.num_layers; ++i)
      layers_.push_back(layers->register_module(std::to_string(i), std::make_shared<Layer>(config)));
    norm_ =
        body->register_module("final_layer_norm", std::make_shared<Norm>(NormKind::kLayerNorm, dim, config.norm_eps));
    head_ = config.tie_embeddings ? embedding_
                                  : register_module("embed_out", std::make_shared<torch::nn::Module>())
                                        ->register_parameter("weight", nn::normal_values({rows, dim}, kEmbeddingStd));
    if (nn::making_values()) set_initial_values();
  }

  Tensor embed(const Tensor& ids) const override { return at::embedding(embedding_, ids); }

  Tensor forward(const Tensor& embeds, const Tensor& seq_idx, Cache* cache) const override {
    if (cache && !cache->layers.empty()) return continue_from(*cache, embeds);
    const int64_t length = embeds.size(1);
    Tensor hidden = embeds,
           position = at::arange(length, embeds.options().dtype(at::kLong)).expand({embeds.size(0), length});
    Places places;
    if (seq_idx.defined()) {
      const Tensor padding = seq_idx.lt(0);
      hidden = embeds.masked_fill(padding.unsqueeze(-1), 0);
      const Tensor start =
          at::cat({at::ones_like(padding.slice(1, 0, 1)), seq_idx.slice(1, 1).ne(seq_idx.slice(1, 0, -1))}, 1);
      const Tensor run = start.cumsum(1), first = at::where(start, position, 0);
      position = position - std::get<0>(first.cummax(1));
      const Tensor before = at::ones({length, length}, start.options()).tril();
      places.mask = (run.unsqueeze(2).eq(run.unsqueeze(1)) & before).unsqueeze(1);
    }
    rotations(position, embeds.scalar_type(), places);
    if (cache) cache->layers.assign(layers_.size(), {});
    hidden = run_layers(hidden, places, cache);
    if (cache && !layers_.empty()) remember_places(seq_idx, position, cache->layers[0]);
    return hidden;
  }

  Tensor step(const Tensor& embeds, Cache& cache) const override {
    const c10::AutoGradMode no_grad(false);
    auto& first = cache.layers[0];
    Tensor seen = at::cat({first[2], at::ones_like(first[2].slice(1, 0, 1))}, 1), position = first[3];
    // What no row sees any more, since the longest sequence has left, is forgotten.
    const auto forgotten = seen.any(0).to(at::kByte).argmax().item<int64_t>();
    for (auto& layer : cache.layers)
      for (const size_t i : {0, 1}) layer[i] = layer[i].slice(2, forgotten);
    seen = seen.slice(1, forgotten);
    Places places;
    for (int64_t row = 0; row < seen.size(0); ++row) places.seen.push_back(seen[row].nonzero().squeeze(1));
    rotations(position.unsqueeze(1), embeds.scalar_type(), places);
    const Tensor hidden = run_layers(embeds.unsqueeze(1), places, &cache);
    first.push_back(seen);
    first.push_back(position + 1);
    return hidden.squeeze(1);
  }

  Tensor head(const Tensor& hidden) const override { return head_logits(hidden, head_, config_.vocab_size); }

  Tensor head_weight() const override { return head_; }

  int64_t hidden_size() const override { return config_.hidden_size; }

 private:
  Tensor run_layers(Tensor hidden, const Places& places, Cache* cache) const {
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto block = [layer = layers_[i], places](const std::vector<Tensor>& in) {
        return std::vector<Tensor>{layer->forward(in[0], places, nullptr)};
      };
      hidden = cache || !nn::recomputes(recompute_every, i)
                   ? layers_[i]->forward(hidden, places, cache ? &cache->layers[i] : nullptr)
                   : nn::recompute({hidden}, layers_[i]->parameters(), block)[0];
    }
    return norm_->forward(hidden);
  }

  // Positions behind those of the cache, all of one run.
  Tensor continue_from(Cache& cache, const Tensor& embeds) const {
    const int64_t rows = embeds.size(0), length = embeds.size(1);
    auto& first = cache.layers[0];
    const Tensor before = first[2], start = first[3];
    const Tensor own = at::ones({length, length}, before.options()).tril().expand({rows, length, length});
    Places places;
    places.mask = at::cat({before.unsqueeze(1).expand({rows, length, -1}), own}, 2).unsqueeze(1);
    rotations(at::arange(length, start.options()) + start.unsqueeze(1), embeds.scalar_type(), places);
    const Tensor hidden = run_layers(embeds, places, &cache);
    first.push_back(at::cat({before, at::ones({rows, length}, before.options())}, 1));
    first.push_back(start + length);
    return hidden;
  }

  // The cosines and sines of positions [B,L], computed in fp32, in the model's type.
  void rotations(const Tensor& position, at::ScalarType type, Places& places) const {
    const int64_t head = config_.hidden_size / config_.gpt_neox.num_heads;
    const auto rotated = static_cast<int64_t>(static_cast<double>(head) * config_.gpt_neox.rotary_fraction);
    const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
    const Tensor power = at::arange(0, rotated, 2, position.options().dtype(wide)) / static_cast<double>(rotated);
    const Tensor angle = position.to(wide).unsqueeze(-1) * at::pow(config_.gpt_neox.rotary_base, power).reciprocal();
    const Tensor both = at::cat({angle, angle}, -1).unsqueeze(1);
    places.cos = both.cos().to(type);
    places.sin = both.sin().to(type);
  }

  // The next position sees the last run that is not padding, and stands behind it.
  static void remember_places(const Tensor& seq_idx, const Tensor& position, std::vector<Tensor>& first) {
    if (!seq_idx.defined()) {
      first.push_back(at::ones_like(position, position.options().dtype(at::kBool)));
      first.push_back(at::full({position.size(0)}, position.size(1), position.options()));
      return;
    }
    const Tensor real = seq_idx.ge(0), index = at::arange(seq_idx.size(1), position.options());
    const Tensor last = at::where(real, index, -1).amax(1, /*keepdim=*/true);  // [B,1]; -1: nothing but padding
    const Tensor count = at::where(last.ge(0), position.gather(1, last.clamp_min(0)) + 1, 0);
    first.push_back(real & index.le(last) & index.gt(last - count));
    first.push_back(count.squeeze(1));
  }

  void set_initial_values() {
    const c10::AutoGradMode no_grad(false);
    for (const auto& layer : layers_)
      for (auto& parameter : layer->named_parameters()) {
        if (parameter.value().dim() == 2) parameter.value().normal_(0, kEmbeddingStd);
        if (parameter.key().ends_with(".bias")) parameter.value().zero_();
      }
  }

  LanguageModelConfig config_;
  Tensor embedding_, head_;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace

std::shared_ptr<LanguageModel> make_gpt_neox(const LanguageModelConfig& config) {
  return std::make_shared<GptNeox>(config);
}

}  // namespace vlmamba
