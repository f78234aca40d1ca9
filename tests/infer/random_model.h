#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "vlmamba/core/rng.h"
#include "vlmamba/core/tokens.h"
#include "vlmamba/infer/prompt.h"
#include "vlmamba/model/vl_mamba.h"

// Small models with random weights whose answers differ, and prompts for them.
namespace vlmamba::test {

struct RandomModel {
  LanguageKind kind;
  std::string connector;
  int64_t seed;
};

/// Pictures of 8x8 pixels are 4 patches. Sizes are no multiples of a register, and change with the seed.
inline std::shared_ptr<VlMamba> random_model(const RandomModel& wanted) {
  ModelConfig config;
  config.vision_encoder.image_size = 8;
  config.vision_encoder.patch_size = 4;
  config.vision_encoder.hidden_size = 8;
  config.vision_encoder.intermediate_size = 12;
  config.vision_encoder.num_layers = 2;
  config.vision_encoder.num_heads = 2;
  config.connector.kind = wanted.connector;
  config.connector.vss.d_state = 3;
  auto& language = config.language_model;
  language.kind = wanted.kind;
  language.vocab_size = 29;
  language.hidden_size = 12 * (1 + wanted.seed % 4);
  language.num_layers = 3;
  language.d_state = 4;
  language.mamba2.head_dim = 6;
  language.gpt_neox.num_heads = 3;
  language.gpt_neox.intermediate_size = 20;
  language.gpt_neox.rotary_fraction = 1;
  auto model = build_model(config, static_cast<uint64_t>(wanted.seed));
  const c10::AutoGradMode no_grad(false);
  for (auto& parameter : model->language_model->parameters())
    if (parameter.dim() == 2) parameter.mul_(3);
  return model;
}

/// Prompts about some of `pictures` pictures: none, one or two of them, behind a common beginning or none, some longer
/// than a piece. Any order.
inline std::vector<Prompt> random_prompts(int64_t seed, int64_t count, int64_t pictures, bool all_shown = false) {
  Rng rng(static_cast<uint64_t>(seed), RngPurpose::kInit);
  std::vector<PicturePtr> shown;
  for (int64_t i = 0; i < pictures; ++i) {
    std::vector<float> pixels(3 * 8 * 8);
    for (float& pixel : pixels) pixel = static_cast<float>(2 * rng.uniform() - 1);
    shown.push_back(std::make_shared<Picture>(std::move(pixels)));
  }
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < count; ++i) {
    Prompt prompt;
    const auto text = [&](uint64_t length) {
      for (uint64_t j = 0; j < length; ++j) prompt.ids.push_back(static_cast<int64_t>(1 + rng.below(28)));
    };
    const auto show = [&](const PicturePtr& picture) {
      prompt.ids.push_back(kImageToken);
      prompt.pictures.push_back(picture);
    };
    if (rng.below(2) > 0) prompt.ids = {7, 8, 9};
    const uint64_t number = all_shown ? 1 : rng.below(3);
    for (uint64_t j = 0; j < number; ++j) {
      show(shown[static_cast<size_t>(i < pictures ? i
                                                  : static_cast<int64_t>(rng.below(static_cast<uint64_t>(pictures))))]);
      text(rng.below(3));
    }
    text(1 + (rng.below(6) == 0 ? 60 + rng.below(90) : rng.below(9)));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

/// One row without padding, pictures expanded.
inline Batch batch_of(const Prompt& prompt, const VlMamba& model) {
  std::vector<int64_t> ids;
  for (const int64_t id : prompt.ids)
    ids.insert(ids.end(), static_cast<size_t>(id == kImageToken ? model.vision_encoder->num_patches() : 1), id);
  Batch batch;
  batch.input_ids = at::tensor(ids, at::kLong).unsqueeze(0);
  std::vector<at::Tensor> pictures;
  for (const auto& picture : prompt.pictures)
    pictures.push_back(at::tensor(picture->pixels, at::kFloat).view({1, 3, 8, 8}));
  if (!pictures.empty()) batch.pixel_values = at::cat(pictures);
  return batch;
}

}  // namespace vlmamba::test
