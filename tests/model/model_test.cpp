#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "vlmamba/core/error.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/model/weights.h"

namespace vlmamba {
namespace {

using at::Tensor;

double largest(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

ModelConfig tiny() {
  ModelConfig config;
  config.vision_encoder.image_size = 8;
  config.vision_encoder.patch_size = 4;
  config.vision_encoder.hidden_size = 8;
  config.vision_encoder.intermediate_size = 12;
  config.vision_encoder.num_layers = 3;
  config.vision_encoder.num_heads = 2;
  config.language_model.vocab_size = 13;
  config.language_model.hidden_size = 8;
  config.language_model.num_layers = 2;
  config.language_model.d_state = 4;
  config.connector.vss.d_state = 3;
  return config;
}

// Two rows of unequal length: two pictures in the first, none in the second, which is padded.
Batch batch_of_two(at::ScalarType type) {
  const int64_t p = kImageToken, i = kIgnoreIndex;
  Batch batch;
  batch.pixel_values = at::randn({2, 3, 8, 8}, type);
  batch.input_ids = at::tensor({p, p, p, p, int64_t{3}, p, p, p, p, int64_t{4}, int64_t{5}}, at::kLong).view({1, 11});
  batch.input_ids = at::cat({batch.input_ids, at::tensor({6, 7, 8, 1, 1, 1, 1, 1, 1, 1, 1}, at::kLong).view({1, 11})});
  batch.labels =
      at::tensor({i, i, i, i, i, i, i, i, i, int64_t{4}, int64_t{5}, i, int64_t{7}, int64_t{8}, i, i, i, i, i, i, i, i},
                 at::kLong)
          .view({2, 11});
  batch.seq_idx = at::zeros({2, 11}, at::kInt);
  batch.seq_idx[1].slice(0, 3).fill_(-1);
  return batch;
}

TEST(VlMamba, LossIsTheCrossEntropyOfAllTargets) {
  const auto model = build_model(tiny(), 1);
  const Batch batch = batch_of_two(at::kFloat);
  const auto loss = model->loss(batch);
  const Tensor log_probabilities = at::log_softmax(model->logits(batch).to(at::kDouble), -1);
  double expected = 0;
  for (const auto& [row, position, id] : {std::tuple{0, 8, 4}, {0, 9, 5}, {1, 0, 7}, {1, 1, 8}})
    expected -= log_probabilities[row][position][id].item<double>();
  EXPECT_EQ(loss.num_tokens, 4);
  EXPECT_NEAR(loss.loss_sum.item<double>(), expected, 1e-4);
}

TEST(VlMamba, APaddedRowEqualsTheRowAlone) {
  const auto model = build_model(tiny(), 2);
  model->to(at::kDouble);
  const Batch batch = batch_of_two(at::kDouble);
  Batch alone;
  alone.input_ids = batch.input_ids.slice(0, 1).slice(1, 0, 3);
  EXPECT_LT(largest(model->language_model->forward(model->embed(batch), batch.seq_idx)[1].slice(0, 0, 3),
                    model->language_model->forward(model->embed(alone))[0]),
            1e-12);
}

TEST(VlMamba, NamesASampleWithTooFewPicturePositions) {
  const auto model = build_model(tiny(), 3);
  Batch batch = batch_of_two(at::kFloat);
  batch.pixel_values = batch.pixel_values.slice(0, 0, 1);
  batch.sample_ids = {"17"};
  try {
    model->loss(batch);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_STREQ(error.what(), "[sample 17] expected 4 picture positions, got 8");
  }
}

TEST(LanguageModel, StepsEqualTheWholeSequence) {
  at::manual_seed(4);
  const auto model = make_language_model(tiny().language_model);
  model->to(at::kDouble);
  const c10::AutoGradMode no_grad(false);
  const Tensor embeds = at::randn({2, 9, 8}, at::kDouble);
  Cache cache, whole_cache;
  model->forward(embeds.slice(1, 0, 4), {}, &cache);
  const Tensor whole = model->forward(embeds, {}, &whole_cache);
  for (int64_t t = 4; t < 9; ++t)
    EXPECT_LT(largest(model->step(embeds.select(1, t), cache), whole.select(1, t)), 1e-12);
  for (size_t i = 0; i < cache.layers.size(); ++i)
    for (size_t j = 0; j < 2; ++j) EXPECT_LT(largest(cache.layers[i][j], whole_cache.layers[i][j]), 1e-12);
}

TEST(LanguageModel, PaddedVocabularyIsNeverChosen) {
  const auto model = make_language_model(tiny().language_model);
  const Tensor logits = model->head(at::randn({3, 8}));
  EXPECT_EQ(logits.size(1), 16);
  EXPECT_TRUE(logits.slice(1, 13).eq(-std::numeric_limits<float>::infinity()).all().item<bool>());
}

TEST(Weights, RoundTripAndListEveryDifference) {
  const std::string path = testing::TempDir() + "/weights_test.safetensors";
  at::manual_seed(8);
  const auto a = make_language_model(tiny().language_model), b = make_language_model(tiny().language_model);
  save_weights(*a, path);
  load_weights(*b, path);
  for (const auto& parameter : a->named_parameters())
    EXPECT_TRUE(at::equal(parameter.value(), b->named_parameters()[parameter.key()])) << parameter.key();
  auto other = tiny().language_model;
  other.num_layers = 3, other.vocab_size = 20;
  const auto c = make_language_model(other);
  try {
    load_weights(*c, path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kWeights);
    const std::string text = error.what();
    EXPECT_NE(text.find("wrong shape  backbone.embeddings.weight: expected [24, 8], got [16, 8]"), std::string::npos)
        << text;
    EXPECT_NE(text.find("missing      backbone.layers.2.mixer.A_log [16, 4]"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace vlmamba
