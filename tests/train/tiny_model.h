#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <vector>

#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/train/mixed_precision.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::test {

/// Every part has more than one block, and nothing has the size of anything else.
inline ModelConfig tiny_model(LanguageKind kind = LanguageKind::kMamba) {
  ModelConfig config;
  config.vision_encoder.image_size = 8;
  config.vision_encoder.patch_size = 4;
  config.vision_encoder.hidden_size = 8;
  config.vision_encoder.intermediate_size = 12;
  config.vision_encoder.num_layers = 3;
  config.vision_encoder.num_heads = 2;
  config.connector.vss.d_state = 3;
  config.language_model.kind = kind;
  config.language_model.vocab_size = 13;
  config.language_model.hidden_size = 16;
  config.language_model.num_layers = 4;
  config.language_model.d_state = 4;
  config.language_model.mamba2.head_dim = 8;
  config.language_model.gpt_neox.num_heads = 2;
  config.language_model.gpt_neox.intermediate_size = 24;
  return config;
}

/// Two rows of unequal length: two pictures in the first, none in the second, which is padded.
inline Batch tiny_batch() {
  const int64_t p = kImageToken, i = kIgnoreIndex;
  Batch batch;
  batch.pixel_values = at::randn({2, 3, 8, 8});
  batch.input_ids =
      at::tensor({p,          p,          p,          p,          int64_t{3}, p,          p,          p,
                  p,          int64_t{4}, int64_t{5}, int64_t{6}, int64_t{7}, int64_t{8}, int64_t{1}, int64_t{1},
                  int64_t{1}, int64_t{1}, int64_t{1}, int64_t{1}, int64_t{1}, int64_t{1}},
                 at::kLong)
          .view({2, 11});
  batch.labels =
      at::tensor({i, i, i, i, i, i, i, i, i, int64_t{4}, int64_t{5}, i, int64_t{7}, int64_t{8}, i, i, i, i, i, i, i, i},
                 at::kLong)
          .view({2, 11});
  batch.seq_idx = at::zeros({2, 11}, at::kInt);
  batch.seq_idx[1].slice(0, 3).fill_(-1);
  return batch;
}

struct Gradients {
  at::Tensor loss;
  NamedTensors of_parameters;  // of those that have one
};

inline Gradients gradients(VlMamba& model, const Batch& batch, Precision precision = Precision::kFloat32) {
  for (auto& parameter : model.parameters()) parameter.mutable_grad() = at::Tensor();
  Gradients result{loss_in(precision, model, batch).loss_sum, {}};
  torch::autograd::backward({result.loss}, {});
  for (const auto& [name, parameter] : named_parameters(model))
    if (parameter.grad().defined()) result.of_parameters.emplace_back(name, parameter.grad().clone());
  result.loss = result.loss.detach();
  return result;
}

}  // namespace vlmamba::test
