#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/tiny_model.h"
#include "vlmamba/nn/linear.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/train/memory_estimate.h"
#include "vlmamba/train/memory_meter.h"
#include "vlmamba/train/mixed_precision.h"
#include "vlmamba/train/step_flops.h"

namespace vlmamba {
namespace {

using at::Tensor;

// Large enough that activations outweigh what does not grow with anything.
ModelConfig small_model(const std::string& connector) {
  ModelConfig config = test::tiny_model();
  config.vision_encoder.image_size = 32;
  config.vision_encoder.hidden_size = 48;
  config.vision_encoder.intermediate_size = 96;
  config.connector.kind = connector;
  config.language_model.vocab_size = 400;
  config.language_model.hidden_size = 64;
  config.language_model.num_layers = 6;
  config.language_model.d_state = 16;
  return config;
}

struct Case {
  std::string connector;
  Precision precision;
  int64_t recompute_every;
  Trainable trainable;
};

Trainable with_lora() {
  Trainable trainable{"connector"};
  LoraConfig lora;
  lora.r = 8;
  trainable.parts["language_model"].lora = lora;
  return trainable;
}

class Estimate : public testing::TestWithParam<Case> {};

// Two rows of 256 positions with a picture each: the bytes of all tensors of forward and backward pass, counted, beside
// weights and gradients.
TEST_P(Estimate, OfActivationsIsWhatASmallRunNeeds) {
  const Case& c = GetParam();
  const ModelConfig config = small_model(c.connector);
  StageConfig stage;
  stage.trainable = c.trainable;
  stage.precision = stage.frozen_dtype = c.precision;
  stage.recompute_every = c.recompute_every;
  stage.batch.micro_batch = 2;
  stage.batch.max_length = 256;
  const auto model = build_model(config, 1);
  set_trainable(*model, c.trainable, 1);
  const MemoryEstimate estimate = estimate_memory(config, *model, stage);

  const FrozenWeights frozen(*model, stage.frozen_dtype);
  model->set_recompute(stage.recompute_every);
  set_dropout_draw(*model, 3);
  int64_t trained = 0, weights = 0;
  for (auto& parameter : model->parameters()) {
    weights += static_cast<int64_t>(parameter.nbytes());
    if (!parameter.requires_grad()) continue;
    trained += parameter.numel();
    parameter.mutable_grad() = at::zeros_like(parameter);
  }
  const int64_t patches = model->vision_encoder->num_patches();
  Batch batch;
  batch.pixel_values = at::randn({2, 3, 32, 32});
  batch.input_ids =
      at::cat({at::full({2, patches}, kImageToken, at::kLong), at::full({2, 256 - patches}, 3, at::kLong)}, 1);
  batch.labels = batch.input_ids.masked_fill(batch.input_ids.lt(0), kIgnoreIndex);
  int64_t measured = 0;
  {
    const MemoryMeter meter;
    const int64_t before = meter.now();
    Tensor loss = loss_in(stage.precision, *model, batch).loss_sum;
    torch::autograd::backward({loss}, {});
    measured = meter.peak() - before;
  }
  EXPECT_EQ(estimate.weights, weights);
  EXPECT_EQ(estimate.gradients, trained * 4);
  EXPECT_EQ(estimate.optimizer, trained * 8);
  const double ratio = static_cast<double>(estimate.activations) / static_cast<double>(measured);
  RecordProperty("activations_estimated_over_measured", std::to_string(ratio));
  // Who looks for a micro-batch that fits doubles it or halves it: within a factor of sqrt(2) either way, the estimate
  // names the right one.
  EXPECT_GT(ratio, std::sqrt(0.5)) << estimate.activations << " for " << measured;
  EXPECT_LT(ratio, std::sqrt(2.0)) << estimate.activations << " for " << measured;
}

INSTANTIATE_TEST_SUITE_P(
    All, Estimate,
    testing::Values(Case{"vss_l2", Precision::kFloat32, 0, {"connector", "language_model"}},
                    Case{"vss_l2", Precision::kFloat32, 1, {"connector", "language_model"}},
                    Case{"vss_l2", Precision::kBfloat16, 0, {"connector", "language_model"}},
                    Case{"vss_l2", Precision::kBfloat16, 1, {"connector"}},
                    Case{"mlp", Precision::kBfloat16, 2, {"vision_encoder", "connector", "language_model"}},
                    Case{"vss_mlp", Precision::kFloat32, 0, with_lora()}));

TEST(Estimate, NeedsNoWeights) {
  ModelConfig config = small_model("vss_l2");
  const auto real = build_model(config, 1);
  const auto on_meta = [&] {
    const nn::WithoutValues meta(at::kFloat, at::kMeta);
    return build_model(config, 1);
  }();
  StageConfig stage;
  stage.trainable = with_lora();
  set_trainable(*real, stage.trainable, 1);
  set_trainable(*on_meta, stage.trainable, 1);
  EXPECT_EQ(estimate_memory(config, *on_meta, stage).sum(), estimate_memory(config, *real, stage).sum());
}

// The matrices of the layers, each of which a position passes through once.
double products_of(const torch::nn::Module& part) {
  double flops = 0;
  for (const auto& module : part.modules(/*include_self=*/false))
    if (const auto* linear = dynamic_cast<const nn::Linear*>(module.get()))
      flops += 2 * static_cast<double>(linear->weight.numel());
  return flops;
}

TEST(Flops, CountEveryMatrixOnceAPosition) {
  for (const auto kind : {LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox}) {
    const ModelConfig config = test::tiny_model(kind);
    const auto model = build_model(config, 1);
    const ForwardFlops flops = forward_flops(config, *model, 100);
    EXPECT_DOUBLE_EQ(flops.block.products * flops.blocks, products_of(*model->language_model));
    EXPECT_GT(flops.block.rest, 0);
  }
  for (const char* connector : {"mlp", "vss_mlp", "vss_l2"}) {
    ModelConfig config = test::tiny_model();
    config.connector.kind = connector;
    config.connector.vss.scan = nn::Scan::kForward;
    const auto model = build_model(config, 1);
    const auto patches = static_cast<double>(model->vision_encoder->num_patches());
    EXPECT_DOUBLE_EQ(forward_flops(config, *model, 1).connector.products, patches * products_of(*model->connector));
  }
  const ModelConfig config = test::tiny_model();
  const auto model = build_model(config, 1);
  const auto& vision = config.vision_encoder;
  const double patches = 4, patch = 2.0 * 3 * 4 * 4 * static_cast<double>(vision.hidden_size);
  EXPECT_DOUBLE_EQ(forward_flops(config, *model, 1).encoder.products,
                   patches * (products_of(*model->vision_encoder) + patch));
}

TEST(Flops, OfAStepFollowWhatTrains) {
  const ModelConfig config = test::tiny_model();
  const auto model = build_model(config, 1);
  const ForwardFlops flops = forward_flops(config, *model, 10);
  const StepSize size{2, 30, 5};
  const double language = flops.block.products * flops.blocks * 30, scans = flops.block.rest * flops.blocks * 30,
               head = flops.head * 5;
  const double fixed = 2 * flops.encoder.sum();
  set_trainable(*model, {"connector"}, 1);
  const double connector = 2 * 3 * flops.connector.sum();
  EXPECT_NEAR(step_flops(flops, *model, size), fixed + connector + 2 * language + 3 * scans + 2 * head, 1);
  set_trainable(*model, {"connector", "language_model"}, 1);
  EXPECT_NEAR(step_flops(flops, *model, size), fixed + connector + 3 * (language + scans + head), 1);
}

}  // namespace
}  // namespace vlmamba
