#include <gtest/gtest.h>

#include "tests/train/tiny_model.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {
namespace {

// One batch again and again: the loss of a target at each step.
std::vector<double> overfit(const ModelConfig& config, const Trainable& trainable, double lr, int steps,
                            Precision precision = Precision::kFloat32) {
  const auto model = build_model(config, 11);
  at::manual_seed(11);
  const Batch batch = test::tiny_batch();
  set_trainable(*model, trainable, 1);
  OptimizerConfig adamw;
  adamw.lr = lr;
  Optimizer optimizer(*model, adamw);
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    const auto loss = loss_in(precision, *model, batch);
    torch::autograd::backward({loss.loss_sum / static_cast<double>(loss.num_tokens)}, {});
    losses.push_back(loss.loss_sum.item<double>() / static_cast<double>(loss.num_tokens));
    optimizer.clip_gradients();
    optimizer.step(1);
  }
  return losses;
}

TEST(Learning, ATinyModelLearnsOneBatchByHeart) {
  for (const auto& [kind, precision] : {std::pair{LanguageKind::kMamba, Precision::kFloat32},
                                        {LanguageKind::kMamba, Precision::kBfloat16},
                                        {LanguageKind::kGptNeox, Precision::kFloat32}}) {
    const auto losses = overfit(test::tiny_model(kind), {"connector", "language_model"}, 1e-2, 120, precision);
    EXPECT_GT(losses.front(), 1);
    EXPECT_LT(losses.back(), 0.01) << enum_name(kind) << " " << enum_name(precision);
  }
}

TEST(Learning, SoDoesLoraAlone) {
  Trainable trainable;
  LoraConfig lora;
  lora.r = 8;
  lora.alpha = 32;
  lora.dropout = 0;
  trainable.parts["language_model"].lora = lora;
  const auto losses = overfit(test::tiny_model(), trainable, 2e-2, 40);
  EXPECT_LT(losses.back(), losses.front() - 0.1);  // as far as a head of random numbers lets it
}

}  // namespace
}  // namespace vlmamba
