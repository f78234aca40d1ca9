#include "vlmamba/infer/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "vlmamba/core/tokens.h"

namespace vlmamba {
namespace {

using at::Tensor;

std::shared_ptr<VlMamba> model() {
  ModelConfig config;
  config.vision_encoder.image_size = 8;
  config.vision_encoder.patch_size = 4;
  config.vision_encoder.hidden_size = 8;
  config.vision_encoder.intermediate_size = 12;
  config.vision_encoder.num_layers = 2;
  config.vision_encoder.num_heads = 2;
  config.language_model.vocab_size = 29;
  config.language_model.hidden_size = 12;
  config.language_model.num_layers = 3;
  config.language_model.d_state = 4;
  auto built = build_model(config, 5);
  built->to(at::kDouble);
  const at::NoGradGuard no_grad;
  for (auto& parameter : built->parameters()) parameter.mul_(2);  // so that answers differ
  return built;
}

// Rows of these prompts, padded on the right.
Batch batch_of(const std::vector<std::vector<int64_t>>& prompts, const Tensor& pixels) {
  size_t length = 0;
  for (const auto& prompt : prompts) length = std::max(length, prompt.size());
  Batch batch;
  const auto rows = static_cast<int64_t>(prompts.size()), columns = static_cast<int64_t>(length);
  batch.input_ids = at::full({rows, columns}, 1, at::kLong);
  batch.seq_idx = at::full({rows, columns}, -1, at::kInt);
  for (size_t row = 0; row < prompts.size(); ++row)
    for (size_t t = 0; t < prompts[row].size(); ++t) {
      batch.input_ids[static_cast<int64_t>(row)][static_cast<int64_t>(t)] = prompts[row][t];
      batch.seq_idx[static_cast<int64_t>(row)][static_cast<int64_t>(t)] = 0;
    }
  batch.pixel_values = pixels;
  return batch;
}

const int64_t P = kImageToken;
const std::vector<std::vector<int64_t>> kPrompts{{3, 4, P, P, P, P, 5}, {7}, {P, P, P, P, 9, 9, 9, 9, 9, 2}, {1, 2, 3}};

TEST(Generator, PromptsOfUnequalLengthGiveTheTokensTheyGiveAlone) {
  at::manual_seed(1);
  const auto vlm = model();
  const Tensor pixels = at::randn({2, 3, 8, 8}, at::kDouble);
  SamplingConfig config;
  config.max_new_tokens = 12;
  for (const double temperature : {0.0, 0.7}) {
    config.temperature = temperature;
    const Generator generator(*vlm, config, /*end_token=*/0, /*seed=*/3);
    const auto together = generator.generate(batch_of(kPrompts, pixels));
    int64_t picture = 0;
    for (size_t row = 0; row < kPrompts.size(); ++row) {
      const bool shown = std::count(kPrompts[row].begin(), kPrompts[row].end(), P) > 0;
      const Tensor own = shown ? pixels.slice(0, picture, picture + 1) : Tensor();
      picture += shown ? 1 : 0;
      EXPECT_EQ(generator.generate(batch_of({kPrompts[row]}, own), static_cast<int64_t>(row)).front(), together[row])
          << "prompt " << row;
    }
  }
}

TEST(Generator, RecurrentDecodingEqualsReadingEverythingAgain) {
  at::manual_seed(2);
  const auto vlm = model();
  SamplingConfig config;
  config.max_new_tokens = 8;
  std::vector<int64_t> sequence{3, 4, 5};
  const auto answer = Generator(*vlm, config, 0).generate(batch_of({sequence}, {})).front();
  const at::NoGradGuard no_grad;
  for (const int64_t token : answer) {
    const auto batch = batch_of({sequence}, {});
    const Tensor hidden = vlm->language_model->forward(vlm->embed(batch), batch.seq_idx);
    EXPECT_EQ(vlm->language_model->head(hidden[0][-1]).argmax().item<int64_t>(), token);
    sequence.push_back(token);
  }
}

TEST(Generator, StatesOfABatchEqualThoseAlone) {
  at::manual_seed(3);
  const auto vlm = model();
  const at::NoGradGuard no_grad;
  const Tensor pixels = at::randn({2, 3, 8, 8}, at::kDouble);
  Cache together, alone;
  const auto batch = batch_of(kPrompts, pixels);
  vlm->language_model->forward(vlm->embed(batch), batch.seq_idx, &together);
  const auto second = batch_of({kPrompts[1]}, {});
  vlm->language_model->forward(vlm->embed(second), second.seq_idx, &alone);
  const Cache own = together.select(at::tensor({1}, at::kLong));
  for (size_t layer = 0; layer < own.layers.size(); ++layer)
    for (size_t i = 0; i < own.layers[layer].size(); ++i)
      EXPECT_LT((own.layers[layer][i] - alone.layers[layer][i]).abs().max().item<double>(), 1e-12);
}

TEST(Generator, StopsAtTheEndTokenAndAtTheLimit) {
  const auto vlm = model();
  SamplingConfig config;
  config.max_new_tokens = 6;
  const auto free = Generator(*vlm, config, -1).generate(batch_of({{3, 4}}, {})).front();
  EXPECT_EQ(free.size(), 6u);
  const auto stopped = Generator(*vlm, config, free[2]).generate(batch_of({{3, 4}}, {})).front();
  EXPECT_EQ(stopped.back(), free[2]);
  EXPECT_LE(stopped.size(), 3u);
}

TEST(Sampling, DrawsWithTheProbabilitiesOfTheLogits) {
  const Tensor logits = at::tensor({0.0, 1.0, 2.0, -1.0}, at::kDouble).view({1, 4});
  const Tensor expected = at::softmax(logits[0] / 0.8, -1);
  SamplingConfig config;
  config.temperature = 0.8;
  std::vector<int> counts(4);
  constexpr int kDraws = 20000;
  for (int64_t i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(choose_tokens(logits, config, 1, {i}, 0).front())];
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_NEAR(counts[static_cast<size_t>(i)] / double{kDraws}, expected[i].item<double>(), 0.012) << i;
  config.top_k = 2;
  for (int64_t i = 0; i < 500; ++i) EXPECT_GE(choose_tokens(logits, config, 1, {i}, 0).front(), 1);
  config.top_k = 0, config.top_p = 0.5;
  for (int64_t i = 0; i < 500; ++i) EXPECT_EQ(choose_tokens(logits, config, 1, {i}, 0).front(), 2);
}

}  // namespace
}  // namespace vlmamba
