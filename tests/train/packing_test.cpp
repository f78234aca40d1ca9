#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "vlmamba/data/collator.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/model/weights.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr int64_t kPatches = 4, kVocab = 50, kImage = 8;

std::shared_ptr<VlMamba> tiny_model(LanguageKind kind) {
  ModelConfig config;
  config.vision_encoder.image_size = kImage;
  config.vision_encoder.patch_size = 4;
  config.vision_encoder.hidden_size = 8;
  config.vision_encoder.intermediate_size = 16;
  config.vision_encoder.num_layers = 2;
  config.vision_encoder.num_heads = 2;
  config.language_model.kind = kind;
  config.language_model.vocab_size = kVocab;
  config.language_model.hidden_size = 16;
  config.language_model.num_layers = 2;
  config.language_model.d_state = 4;
  config.language_model.mamba2.head_dim = 8;
  config.language_model.gpt_neox.num_heads = 2;
  config.language_model.gpt_neox.intermediate_size = 32;
  const auto model = build_model(config, 5);
  model->to(at::kDouble);
  return model;
}

// Examples of 5 to 17 positions, every other with a picture in it, some positions learnt.
std::vector<Example> make_examples(int64_t count) {
  at::manual_seed(9);
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    Example example{std::to_string(i), 0, {}, {}};
    const int64_t length = 5 + i * 5 % 13;
    const Tensor ids = at::randint(0, kVocab, {length}, at::kLong), learnt = at::rand({length}).gt(0.4);
    for (int64_t t = 0; t < length; ++t) {
      const auto id = ids[t].item<int64_t>();
      example.sample.input_ids.push_back(id);
      example.sample.labels.push_back(learnt[t].item<bool>() ? id : kIgnoreIndex);
    }
    if (i % 2 == 0) {
      std::fill_n(example.sample.input_ids.begin() + 1, kPatches, kImageToken);
      std::fill_n(example.sample.labels.begin() + 1, kPatches, kIgnoreIndex);
      const Tensor pixels = at::randn({3 * kImage * kImage});
      example.pictures.emplace_back(pixels.const_data_ptr<float>(), pixels.const_data_ptr<float>() + pixels.numel());
    }
    examples.push_back(std::move(example));
  }
  return examples;
}

Row pointers(const std::vector<Example>& examples) {
  Row all;
  for (const auto& example : examples) all.push_back(&example);
  return all;
}

struct LossAndGradients {
  double loss;
  int64_t tokens;
  std::vector<Tensor> gradients;
};

LossAndGradients measure(VlMamba& model, const Batch& batch) {
  for (auto& [name, parameter] : named_parameters(model)) parameter.mutable_grad() = Tensor();
  const auto loss = model.loss(batch);
  torch::autograd::backward({loss.loss_sum}, {});
  LossAndGradients result{loss.loss_sum.item<double>(), loss.num_tokens, {}};
  for (const auto& [name, parameter] : named_parameters(model))
    result.gradients.push_back(parameter.grad().defined() ? parameter.grad().clone() : at::zeros_like(parameter));
  return result;
}

class Packing : public testing::TestWithParam<LanguageKind> {};

TEST_P(Packing, GivesTheLossAndGradientsOfOneExampleARow) {
  const auto model = tiny_model(GetParam());
  const auto examples = make_examples(9);
  const Row all = pointers(examples);
  const auto rows = pack(all, 32);
  ASSERT_LT(rows.size(), 5u);
  const auto apart = measure(*model, collate(all, 1, kImage));
  const auto packed = measure(*model, collate_rows(rows, 1, kImage));
  EXPECT_EQ(packed.tokens, apart.tokens);
  EXPECT_NEAR(packed.loss / apart.loss, 1, 1e-10);
  const auto names = named_parameters(*model);
  for (size_t i = 0; i < names.size(); ++i) {
    const double size = apart.gradients[i].norm().item<double>();
    EXPECT_LE((packed.gradients[i] - apart.gradients[i]).norm().item<double>(), 1e-10 * size + 1e-14) << names[i].first;
  }
}

// Another picture changes its own example and no other of its row, bit for bit; nor does one of NaN, where what masks
// is not a product with 0.
TEST_P(Packing, NothingLeaksFromOneExampleIntoTheNext) {
  const auto model = tiny_model(GetParam());
  auto examples = make_examples(5);
  const Batch clean = collate_rows({pointers(examples)}, 1, kImage);
  const Tensor before = model->logits(clean);
  const float other = GetParam() == LanguageKind::kMamba ? std::numeric_limits<float>::quiet_NaN() : 50;
  std::fill(examples[2].pictures[0].begin(), examples[2].pictures[0].end(), other);
  const Batch spoilt = collate_rows({pointers(examples)}, 1, kImage);
  const Tensor after = model->logits(spoilt);
  for (int64_t i = 0; i < 5; ++i) {
    const Tensor of = clean.seq_idx[0].eq(i);
    const Tensor own = after[0].index({of}), theirs = before[0].index({of});
    if (i == 2) {
      EXPECT_FALSE(at::equal(own, theirs));
    } else {
      EXPECT_TRUE(at::equal(own, theirs)) << "example " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Languages, Packing,
                         testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox),
                         [](const auto& info) { return "kind" + std::to_string(info.index); });

}  // namespace
}  // namespace vlmamba
