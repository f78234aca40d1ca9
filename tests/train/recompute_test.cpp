#include "vlmamba/nn/recompute.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/tiny_model.h"
#include "vlmamba/train/memory_meter.h"

namespace vlmamba {
namespace {

using at::Tensor;
using test::gradients;

void expect_equal(const test::Gradients& got, const test::Gradients& expected) {
  EXPECT_TRUE(got.loss.equal(expected.loss));
  ASSERT_EQ(got.of_parameters.size(), expected.of_parameters.size());
  for (size_t i = 0; i < expected.of_parameters.size(); ++i) {
    const auto& [name, gradient] = expected.of_parameters[i];
    EXPECT_EQ(got.of_parameters[i].first, name);
    EXPECT_TRUE(got.of_parameters[i].second.equal(gradient)) << name;
  }
}

class Recompute : public testing::TestWithParam<std::tuple<LanguageKind, Precision, Trainable>> {};

TEST_P(Recompute, LeavesLossAndGradientsBitForBit) {
  const auto& [kind, precision, trainable] = GetParam();
  const auto model = build_model(test::tiny_model(kind), 1);
  set_trainable(*model, trainable, 1);
  set_dropout_draw(*model, 17);
  const Batch batch = test::tiny_batch();
  const auto expected = gradients(*model, batch, precision);
  ASSERT_FALSE(expected.of_parameters.empty());
  for (const int64_t every : {1, 2, 3}) {
    SCOPED_TRACE("every " + std::to_string(every));
    model->set_recompute(every);
    expect_equal(gradients(*model, batch, precision), expected);
  }
}

Trainable with_lora() {
  Trainable trainable{"connector"};
  LoraConfig lora;
  lora.r = 4;
  lora.dropout = 0.5;
  trainable.parts["language_model"].lora = lora;
  trainable.parts["vision_encoder"].lora = lora;
  return trainable;
}

INSTANTIATE_TEST_SUITE_P(
    All, Recompute,
    testing::Combine(testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox),
                     testing::Values(Precision::kFloat32, Precision::kBfloat16),
                     testing::Values(Trainable{"connector"}, Trainable{"vision_encoder", "connector", "language_model"},
                                     with_lora())));

TEST(Recompute, IsAPlainCallWhereNothingRequiresGrad) {
  int calls = 0;
  const nn::Segment twice = [&](const std::vector<Tensor>& in) {
    ++calls;
    return std::vector<Tensor>{in[0] * 2};
  };
  const Tensor x = at::ones({3});
  EXPECT_FALSE(nn::recompute({x}, {}, twice)[0].requires_grad());
  const Tensor y = at::ones({3}).requires_grad_();
  Tensor out = nn::recompute({y}, {}, twice)[0];
  EXPECT_EQ(calls, 2);
  torch::autograd::backward({out.sum()}, {});
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(y.grad().equal(at::full({3}, 2.f)));
}

// Of a segment with two outputs and an input that it does not use, one output is not needed.
TEST(Recompute, PassesOverOutputsAndInputsWithoutGradient) {
  const Tensor a = at::randn({4}).requires_grad_(), unused = at::randn({4}).requires_grad_(),
               weight = at::randn({4}).requires_grad_();
  const auto out = nn::recompute({a, unused}, {weight}, [weight](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{in[0] * weight, in[0].exp()};
  });
  torch::autograd::backward({out[0].sum()}, {});
  EXPECT_TRUE(a.grad().equal(weight.detach()));
  EXPECT_TRUE(weight.grad().equal(a.detach()));
  EXPECT_FALSE(unused.grad().defined());
}

// What the forward pass keeps and what the whole step needs, in bytes of tensors.
struct Memory {
  int64_t kept, peak;
};

Memory memory_of(VlMamba& model, const Batch& batch) {
  MemoryMeter meter;
  const int64_t before = meter.now();
  Tensor loss = model.loss(batch).loss_sum;
  const int64_t kept = meter.now() - before;
  torch::autograd::backward({loss}, {});
  return {kept, meter.peak() - before};
}

// One picture and 252 ids, nothing trains but the connector: no gradients of weights hide the activations.
Batch long_batch() {
  Batch batch;
  batch.pixel_values = at::randn({1, 3, 8, 8});
  batch.input_ids = at::cat({at::full({1, 4}, kImageToken, at::kLong), at::full({1, 252}, 3, at::kLong)}, 1);
  batch.labels = batch.input_ids.masked_fill(batch.input_ids.lt(0), kIgnoreIndex);
  return batch;
}

TEST(Recompute, KeepsWhatEntersABlockInsteadOfAllWithinIt) {
  auto config = test::tiny_model();
  constexpr int64_t kBlocks = 8, kWidth = 32, kPositions = 256;
  config.language_model.num_layers = kBlocks;
  config.language_model.hidden_size = kWidth;
  const auto model = build_model(config, 1);
  set_trainable(*model, {"connector"}, 1);
  const Batch batch = long_batch();
  const Memory none = memory_of(*model, batch);
  model->set_recompute(2);
  const Memory half = memory_of(*model, batch);
  model->set_recompute(1);
  const Memory all = memory_of(*model, batch);
  RecordProperty("kept_bytes_none", std::to_string(none.kept));
  RecordProperty("kept_bytes_half", std::to_string(half.kept));
  RecordProperty("kept_bytes_all", std::to_string(all.kept));
  // Into a block go hidden and residual; beside the blocks there are no more than the text's embeddings, those with the
  // pictures in place, the norm's input and output, and the rows with targets: less than another two blocks' worth.
  constexpr int64_t kStream = kPositions * kWidth * 4;
  EXPECT_LT(all.kept, (kBlocks + 2) * 2 * kStream);
  EXPECT_GE(all.kept, kBlocks * 2 * kStream);
  // Of every second block lies halfway between, to within a block: connector and logits differ too.
  EXPECT_NEAR(static_cast<double>(half.kept), static_cast<double>(none.kept + all.kept) / 2,
              static_cast<double>(none.kept) / kBlocks);
  // The whole step needs less than what would be kept alone.
  EXPECT_LT(all.peak, none.kept);
}

// Gradients pass through a frozen language model, but what only the gradients of its weights need is not kept.
TEST(FrozenLanguageModel, KeepsLessThanOneThatTrains) {
  const auto config = test::tiny_model();
  const auto model = build_model(config, 1);
  const Batch batch = long_batch();
  set_trainable(*model, {"connector", "language_model"}, 1);
  const Memory training = memory_of(*model, batch);
  set_trainable(*model, {"connector"}, 1);
  const Memory frozen = memory_of(*model, batch);
  RecordProperty("kept_bytes_training", std::to_string(training.kept));
  RecordProperty("kept_bytes_frozen", std::to_string(frozen.kept));
  // At the least what in_proj and out_proj take, which nothing else needs: the norm's output and the scan's.
  const int64_t width = config.language_model.hidden_size, inner = width * config.language_model.expand;
  EXPECT_GE(training.kept - frozen.kept,
            config.language_model.num_layers * batch.input_ids.numel() * (width + inner) * 4);
  EXPECT_LT(frozen.peak, training.peak);
}

}  // namespace
}  // namespace vlmamba
