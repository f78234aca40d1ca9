#pragma once

#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "vlmamba/core/batch.h"
#include "vlmamba/model/connector.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"

namespace vlmamba {

struct ModelConfig {
  VisionEncoderConfig vision_encoder;
  ConnectorConfig connector;
  LanguageModelConfig language_model;

  template <typename F>
  void visit(F& f) {
    f("vision_encoder", vision_encoder, "pictures to patch features");
    f("connector", connector, "patch features to embeddings");
    f("language_model", language_model, "embeddings to text");
  }
};

/// The composition: pictures through encoder and connector into the places of the text that hold kImageToken, and all
/// through the language model. Children: vision_encoder, connector, language_model.
/// A batch may lie on the CPU while the model is on a GPU.
class VlMamba : public torch::nn::Module {
 public:
  VlMamba(std::shared_ptr<VisionEncoder> vision_encoder, std::shared_ptr<Connector> connector,
          std::shared_ptr<LanguageModel> language_model);

  /// The text's embeddings with the pictures in their places: [B,L,D]. Throws Error (data) if the number of places is
  /// not that of the patches.
  at::Tensor embed(const Batch& batch) const;

  /// What stands in the places of pictures [I,3,S,S]: [I,P,D] in `type`.
  at::Tensor embed_pictures(const at::Tensor& pixel_values, at::ScalarType type) const;

  /// fp32 logits of every position: [B,L,vocab].
  at::Tensor logits(const Batch& batch) const;

  /// Where the parameters are.
  at::Device device() const;

  struct Loss {
    at::Tensor loss_sum;  ///< sum of the cross-entropies of all targets, fp32, with gradient
    int64_t num_tokens;   ///< the number of targets
  };
  /// Cross-entropy on target positions only; head and loss run in chunks of them.
  Loss loss(const Batch& batch) const;

  /// Every `every`-th block of encoder and language model is computed again in the backward pass; with 1 the connector
  /// is, too, and with any the logits are. 0: nothing. Results and gradients stay the same, bit for bit.
  void set_recompute(int64_t every);

  const std::shared_ptr<VisionEncoder> vision_encoder;
  const std::shared_ptr<Connector> connector;
  const std::shared_ptr<LanguageModel> language_model;

 private:
  at::Tensor connected(const at::Tensor& pixel_values) const;  // -> [I,P,D]
  at::Tensor cross_entropy(const at::Tensor& rows, const at::Tensor& ids) const;

  int64_t recompute_every_ = 0;
};

/// Builds all parts with fresh weights seeded by `seed`, then loads what `pretrained` names.
std::shared_ptr<VlMamba> build_model(const ModelConfig& config, uint64_t seed,
                                     const std::map<std::string, ConnectorFactory>& extensions = {});

}  // namespace vlmamba
