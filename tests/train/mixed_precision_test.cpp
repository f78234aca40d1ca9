#include <gtest/gtest.h>

#include "tests/train/tiny_model.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {
namespace {

using at::Tensor;
using test::gradients;

class MixedPrecision : public testing::TestWithParam<LanguageKind> {
 protected:
  std::shared_ptr<VlMamba> model = build_model(test::tiny_model(GetParam()), 5);
  Batch batch = test::tiny_batch();

  // Ten steps of AdamW: the loss of a target at each.
  std::vector<double> train(Precision precision) {
    set_trainable(*model, {"connector", "language_model"}, 1);
    OptimizerConfig config;
    config.lr = 1e-2;
    Optimizer optimizer(*model, config);
    std::vector<double> losses;
    for (int step = 0; step < 10; ++step) {
      optimizer.zero_grad();
      const auto loss = loss_in(precision, *model, batch);
      torch::autograd::backward({loss.loss_sum / static_cast<double>(loss.num_tokens)}, {});
      losses.push_back(loss.loss_sum.item<double>() / static_cast<double>(loss.num_tokens));
      optimizer.clip_gradients();
      optimizer.step(1);
    }
    return losses;
  }
};

// bfloat16 keeps 8 bits: a relative error of 2^-9 an operation; over these few layers and ten steps losses stay within
// 5 % of the first.
TEST_P(MixedPrecision, LossesFollowThoseOfFp32) {
  std::vector<std::pair<Tensor, Tensor>> start;
  for (auto& parameter : model->parameters()) start.emplace_back(parameter, parameter.detach().clone());
  const auto exact = train(Precision::kFloat32);
  for (auto& [parameter, value] : start) parameter.set_data(value.clone());
  const auto half = train(Precision::kBfloat16);
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(half[i], exact[i], 0.05 * exact[0]) << "step " << i;
  EXPECT_LT(half.back(), half.front());  // and it learns
  EXPECT_NE(half[0], exact[0]);          // in bfloat16, indeed
}

TEST_P(MixedPrecision, MastersAndGradientsStayFp32) {
  set_trainable(*model, {"connector", "language_model"}, 1);
  const auto result = gradients(*model, batch, Precision::kBfloat16);
  EXPECT_EQ(result.loss.scalar_type(), at::kFloat);
  EXPECT_FALSE(result.of_parameters.empty());
  for (const auto& [name, gradient] : result.of_parameters) {
    EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name;
    EXPECT_FALSE(name.starts_with("vision_encoder")) << name;
  }
  for (const auto& [name, parameter] : named_parameters(*model)) EXPECT_EQ(parameter.scalar_type(), at::kFloat) << name;
}

TEST_P(MixedPrecision, FrozenMatricesAreHalvedAndComeBackWhole) {
  set_trainable(*model, {"connector"}, 1);
  const auto before = named_parameters(*model);
  NamedTensors values;
  for (const auto& [name, parameter] : before) values.emplace_back(name, parameter.detach().clone());
  const double exact = gradients(*model, batch, Precision::kBfloat16).loss.item<double>();
  {
    FrozenWeights frozen(*model, Precision::kBfloat16);
    for (const auto& [name, parameter] : named_parameters(*model)) {
      const bool halved = !name.starts_with("connector") && is_decayed(name, parameter);
      EXPECT_EQ(parameter.scalar_type(), halved ? at::kBFloat16 : at::kFloat) << name;
    }
    const auto result = gradients(*model, batch, Precision::kBfloat16);
    // Through a language model that is frozen, the connector still learns; nothing else has gradients.
    EXPECT_NEAR(result.loss.item<double>(), exact, 0.01 * exact);
    EXPECT_FALSE(result.of_parameters.empty());
    for (const auto& [name, gradient] : result.of_parameters) {
      EXPECT_TRUE(name.starts_with("connector")) << name;
      EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name;
    }
    {
      const FrozenWeights::Unrounded whole(frozen);
      const auto saved = named_parameters(*model);
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_TRUE(saved[i].second.to(at::kFloat).equal(values[i].second)) << values[i].first;
    }
    EXPECT_EQ(named_parameters(*model).back().second.requires_grad(), false);
  }
  for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(before[i].second.equal(values[i].second)) << values[i].first;
}

INSTANTIATE_TEST_SUITE_P(All, MixedPrecision,
                         testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox));

}  // namespace
}  // namespace vlmamba
