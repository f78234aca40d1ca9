#pragma once

#include <torch/nn/module.h>

#include <array>
#include <memory>
#include <string>

#include "vlmamba/core/fields.h"
#include "vlmamba/model/cache.h"

namespace vlmamba {

enum class LanguageKind { kMamba };
constexpr auto enum_names(LanguageKind) { return std::array{EnumName<LanguageKind>{LanguageKind::kMamba, "mamba"}}; }

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
  double norm_eps = 1e-5;
  std::string pretrained;

  template <typename F>
  void visit(F& f) {
    f("kind", kind, "architecture");
    f("vocab_size", vocab_size, "ids of the tokenizer", Range{1});
    f("pad_vocab_multiple", pad_vocab_multiple, "embedding rows are padded to a multiple of this", Range{1});
    f("hidden_size", hidden_size, "channels", Range{1});
    f("num_layers", num_layers, "blocks", Range{1});
    f("d_state", d_state, "states per channel", Range{1});
    f("d_conv", d_conv, "taps of the causal convolution", Range{1});
    f("expand", expand, "inner channels per channel", Range{1});
    f("dt_rank", dt_rank, "rank of the step size's projection; 0: hidden_size / 16, rounded up", Range{0});
    f("norm_eps", norm_eps, "added to the mean square in RMSNorm", Range{0});
    f("pretrained", pretrained, "safetensors file of weights; empty: fresh weights");
  }
};

/// Embeddings to hidden states to logits. Parameter names as HF's MambaForCausalLM; the head is the embedding.
class LanguageModel : public torch::nn::Module {
 public:
  /// ids [...] int64 -> [..., D]
  virtual at::Tensor embed(const at::Tensor& ids) const = 0;
  /// [B,L,D] -> hidden states after the final norm [B,L,D]. seq_idx [B,L] int32 or undefined; padding gives rows
  /// without meaning. `cache` is filled with what follows the last position.
  virtual at::Tensor forward(const at::Tensor& embeds, const at::Tensor& seq_idx = {},
                             Cache* cache = nullptr) const = 0;
  /// One position: [B,D] -> [B,D]; moves the cache on in place. Without gradients.
  virtual at::Tensor step(const at::Tensor& embeds, Cache& cache) const = 0;
  /// [..., D] -> logits [..., vocab]; padded rows of the vocabulary are -inf.
  virtual at::Tensor head(const at::Tensor& hidden) const = 0;
  virtual int64_t hidden_size() const = 0;
};

/// With fresh weights from the default generator, initialised as mamba_ssm does.
std::shared_ptr<LanguageModel> make_language_model(const LanguageModelConfig& config);

}  // namespace vlmamba
