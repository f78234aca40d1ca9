#include <gtest/gtest.h>

#include "tests/train/tiny_model.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {
namespace {

// One batch again and again: the loss of a target at each step.
std::vector<double> overfit(VlMamba& model, const Trainable& trainable, double lr, int steps,
                            Precision precision = Precision::kFloat32) {
  at::manual_seed(11);
  const Batch batch = test::tiny_batch();
  set_trainable(model, trainable, 1);
  OptimizerConfig adamw;
  adamw.lr = lr;
  Optimizer optimizer(model, adamw);
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    const auto loss = loss_in(precision, model, batch);
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
    const auto model = build_model(test::tiny_model(kind), 11);
    const auto losses = overfit(*model, {"connector", "language_model"}, 1e-2, 120, precision);
    EXPECT_GT(losses.front(), 1);
    EXPECT_LT(losses.back(), 0.01) << enum_name(kind) << " " << enum_name(precision);
  }
}

// In fp64, so that they are the same on every machine: what any change of model, gradients or optimizer would move.
TEST(Learning, TheFirstTenLossesOfAFixedRunAreTheseOnes) {
  const std::vector<double> committed{2.589442528842, 2.367401421147, 2.192589093398, 2.031801555929, 1.877287477588,
                                      1.723746108287, 1.573764911060, 1.427846108319, 1.285818185530, 1.148474678655};
  const auto model = build_model(test::tiny_model(), 11);
  model->to(at::kDouble);
  const auto losses = overfit(*model, {"connector", "language_model"}, 1e-2, 10);
  ASSERT_EQ(losses.size(), committed.size());
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], committed[i], 1e-9) << "step " << i + 1;
}

TEST(Learning, SoDoesLoraAlone) {
  Trainable trainable;
  LoraConfig lora;
  lora.r = 8;
  lora.alpha = 32;
  lora.dropout = 0;
  trainable.parts["language_model"].lora = lora;
  const auto model = build_model(test::tiny_model(), 11);
  {  // The frozen head's rows are as long as those of a trained model: else no hidden state would be sure of a target.
    const c10::AutoGradMode no_grad(false);
    model->language_model->head_weight().normal_();
  }
  const auto losses = overfit(*model, trainable, 1e-2, 120);
  EXPECT_GT(losses.front(), 1);
  EXPECT_LT(losses.back(), 0.01);
}

}  // namespace
}  // namespace vlmamba
