#pragma once

#include <torch/nn/module.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "vlmamba/core/fields.h"
#include "vlmamba/model/cache.h"
#include "vlmamba/nn/activation.h"
#include "vlmamba/nn/norm.h"

namespace vlmamba {

enum class LanguageKind { kMamba, kMamba2, kGptNeox };
constexpr auto enum_names(LanguageKind) {
  return std::array{EnumName<LanguageKind>{LanguageKind::kMamba, "mamba"},
                    EnumName<LanguageKind>{LanguageKind::kMamba2, "mamba2"},
                    EnumName<LanguageKind>{LanguageKind::kGptNeox, "gpt_neox"}};
}

/// What a Mamba-2 layer has and Mamba-1's has not.
struct Mamba2Config {
  int64_t head_dim = 64;
  int64_t num_groups = 1;
  int64_t norm_groups = 1;
  double dt_min = 0;
  std::optional<double> dt_max;

  template <typename F>
  void visit(F& f) {
    f("head_dim", head_dim, "channels per head", Range{1, kMostChannels});
    f("num_groups", num_groups, "groups of heads that share B and C", Range{1, kMostChannels});
    f("norm_groups", norm_groups,
      "groups of channels that the gated norm normalises apart: num_groups as mamba_ssm, 1 as Hugging Face",
      Range{1, kMostChannels});
    f("dt_min", dt_min, "least step size", Range{0});
    f("dt_max", dt_max, "greatest step size; null: any", Range{0});
  }
};

/// What a GPT-NeoX layer has. The defaults are EleutherAI/pythia-2.8b's.
struct GptNeoxConfig {
  int64_t num_heads = 32;
  int64_t intermediate_size = 10240;
  double rotary_fraction = 0.25;
  double rotary_base = 10000;
  bool parallel_residual = true;
  bool attention_bias = true;
  nn::Activation activation = nn::Activation::kGelu;

  template <typename F>
  void visit(F& f) {
    f("num_heads", num_heads, "attention heads", Range{1, kMostChannels});
    f("intermediate_size", intermediate_size, "channels inside the MLP", Range{1, kMostChannels});
    f("rotary_fraction", rotary_fraction, "share of a head's channels that are rotated", Range{0, 1});
    f("rotary_base", rotary_base, "base of the rotary frequencies", Range{1});
    f("parallel_residual", parallel_residual, "attention and MLP both read the layer's input");
    f("attention_bias", attention_bias, "biases of the attention's projections");
    f("activation", activation, "inside the MLP");
  }
};

/// A language model. The defaults are state-spaces/mamba-2.8b-slimpj.
struct LanguageModelConfig {
  LanguageKind kind = LanguageKind::kMamba;
  int64_t vocab_size = 50277;
  int64_t pad_vocab_multiple = 8;
  int64_t hidden_size = 2560;
  int64_t num_layers = 64;
  int64_t d_state = 16;
  int64_t d_conv = 4;
  int64_t expand = 2;
  int64_t dt_rank = 0;
  bool projection_bias = false;
  bool conv_bias = true;
  double norm_eps = 1e-5;
  nn::NormRounding norm_rounding = nn::NormRounding::kOnce;
  bool tie_embeddings = true;
  Mamba2Config mamba2;
  GptNeoxConfig gpt_neox;
  std::string pretrained;

  /// Rows of the embedding.
  int64_t embedding_rows() const {
    return (vocab_size + pad_vocab_multiple - 1) / pad_vocab_multiple * pad_vocab_multiple;
  }

  template <typename F>
  void visit(F& f) {
    f("kind", kind, "architecture");
    f("vocab_size", vocab_size, "ids of the tokenizer", Range{1, kMostIds});
    f("pad_vocab_multiple", pad_vocab_multiple, "embedding rows are padded to a multiple of this", Range{1, kMostIds});
    f("hidden_size", hidden_size, "channels", Range{1, kMostChannels});
    f("num_layers", num_layers, "blocks", Range{1, kMostLayers});
    f("d_state", d_state, "states per channel (mamba: 16, mamba2: 128 in the published models)",
      Range{1, kMostChannels});
    f("d_conv", d_conv, "taps of the causal convolution", Range{1, kMostChannels});
    f("expand", expand, "inner channels per channel", Range{1, kMostChannels});
    f("dt_rank", dt_rank, "rank of the step size's projection (mamba); 0: hidden_size / 16, rounded up",
      Range{0, kMostChannels});
    f("projection_bias", projection_bias, "biases of in_proj and out_proj");
    f("conv_bias", conv_bias, "bias of the causal convolution");
    f("norm_eps", norm_eps, "added to the mean square, or to the variance, in norms", Range{0});
    f("norm_rounding", norm_rounding,
      "what RMSNorm in bf16 rounds: its result (mamba_ssm), or also what the weight multiplies (Hugging Face)");
    f("tie_embeddings", tie_embeddings, "the head is the embedding");
    f("mamba2", mamba2, "of kind mamba2");
    f("gpt_neox", gpt_neox, "of kind gpt_neox");
    f("pretrained", pretrained, "weights: a file, or a folder of Hugging Face or of mamba_ssm; empty: fresh weights");
  }
};

/// Embeddings to hidden states to logits. Parameter names as in Hugging Face's classes; a tied head is the embedding.
class LanguageModel : public torch::nn::Module {
 public:
  /// ids [...] int64 -> [..., D]
  virtual at::Tensor embed(const at::Tensor& ids) const = 0;
  /// [B,L,D] -> hidden states after the final norm [B,L,D]. seq_idx [B,L] int32 or undefined; padding gives rows
  /// without meaning. `cache` is left as it is behind the last position; one that is not empty holds what stands before
  /// the first (then seq_idx must be undefined).
  virtual at::Tensor forward(const at::Tensor& embeds, const at::Tensor& seq_idx = {},
                             Cache* cache = nullptr) const = 0;
  /// One position: [B,D] -> [B,D]; moves the cache on in place. Without gradients.
  virtual at::Tensor step(const at::Tensor& embeds, Cache& cache) const = 0;
  /// [..., D] -> logits [..., vocab]; padded rows of the vocabulary are -inf.
  virtual at::Tensor head(const at::Tensor& hidden) const = 0;
  /// What `head` multiplies with [rows,D], the embedding itself where they are tied.
  virtual at::Tensor head_weight() const = 0;
  virtual int64_t hidden_size() const = 0;

  int64_t recompute_every = 0;  ///< every so many blocks, `forward` computes a block again (nn/recompute.h)
};

/// With fresh weights from the default generator, initialised as mamba_ssm does (GPT-NeoX: normal, 0.02). Throws Error
/// (usage) for sizes that do not fit.
std::shared_ptr<LanguageModel> make_language_model(const LanguageModelConfig& config);

}  // namespace vlmamba
