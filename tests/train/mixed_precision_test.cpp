#include <gtest/gtest.h>

#include "tests/train/tiny_model.h"
#include "vlmamba/nn/autocast.h"
#include "vlmamba/nn/linear.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {
namespace {

using at::Tensor;
using test::gradients;

// What a layer computes in bfloat16 is its product of rounded values, bit for bit, gradients included.
TEST(Autocast, RoundsWhatMatrixProductsTakeAndGive) {
  const nn::Linear layer(24, 16);
  const Tensor x = at::randn({5, 24}), dy = at::randn({5, 16}).to(at::kBFloat16);
  const auto run = [&](const std::function<Tensor(const Tensor&)>& forward) {
    const Tensor in = x.detach().set_requires_grad(true);
    for (auto& parameter : layer.parameters()) parameter.mutable_grad() = Tensor();
    const Tensor y = forward(in);
    torch::autograd::backward({y}, {dy});
    return std::vector{y.detach(), in.grad(), layer.weight.grad(), layer.bias.grad()};
  };
  const auto got = run([&](const Tensor& in) {
    const nn::Autocast autocast(at::kCPU, at::kBFloat16);
    return layer.forward(in);
  });
  const auto expected = run([&](const Tensor& in) {
    return at::linear(in.to(at::kBFloat16), layer.weight.to(at::kBFloat16), layer.bias.to(at::kBFloat16));
  });
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].scalar_type(), expected[i].scalar_type()) << i;
    EXPECT_TRUE(got[i].equal(expected[i])) << i;
  }
}

TEST(Autocast, EndsWithItsScope) {
  const Tensor x = at::randn({2, 3});
  EXPECT_EQ(nn::Autocast::current(at::kCPU), at::kFloat);
  {
    const nn::Autocast outer(at::kCPU, at::kBFloat16);
    EXPECT_EQ(at::matmul(x, x.t()).scalar_type(), at::kBFloat16);
    {
      const nn::Autocast inner(at::kCPU, at::kFloat);
      EXPECT_EQ(at::matmul(x, x.t()).scalar_type(), at::kFloat);
    }
    EXPECT_EQ(nn::Autocast::current(at::kCPU), at::kBFloat16);
  }
  EXPECT_EQ(at::matmul(x, x.t()).scalar_type(), at::kFloat);
}

class MixedPrecision : public testing::TestWithParam<LanguageKind> {
 protected:
  std::shared_ptr<VlMamba> model = build_model(test::tiny_model(GetParam()), 5);
  Batch batch = test::tiny_batch();

  // As loaded from a bfloat16 checkpoint.
  void round_weights() {
    const c10::AutoGradMode no_grad(false);
    for (auto& parameter : model->parameters()) parameter.copy_(parameter.to(at::kBFloat16));
  }
};

// Every gradient, in one row.
Tensor all_gradients(VlMamba& model, const Batch& batch, at::ScalarType type) {
  constexpr double kScale = 1 << 10;  // of the loss, so that fp16 does not underflow
  for (auto& parameter : model.parameters()) parameter.mutable_grad() = Tensor();
  const Tensor loss = [&] {
    const nn::Autocast autocast(at::kCPU, type);
    return model.loss(batch).loss_sum;
  }();
  torch::autograd::backward({loss * kScale}, {});
  std::vector<Tensor> values;
  for (const auto& [name, parameter] : named_parameters(model))
    if (parameter.grad().defined()) values.push_back(parameter.grad().to(at::kDouble).flatten() / kScale);
  return at::cat(values);
}

// bfloat16 rounds to 8 bits, fp16 to 11. If rounding is all that a gradient differs from fp64's by, it differs about
// eight times less in fp16; a mistake would differ as much in both. Asked for is a quarter, in the norm over all.
TEST_P(MixedPrecision, GradientsDifferByRoundingAlone) {
  const Trainable trainable{"connector", "language_model"};
  const auto wide = build_model(test::tiny_model(GetParam()), 5);
  set_trainable(*wide, trainable, 1);
  wide->to(at::kDouble);
  const Tensor exact = all_gradients(*wide, batch, at::kFloat);  // that is, as its weights
  set_trainable(*model, trainable, 1);
  const auto error = [&](at::ScalarType type) {
    return (all_gradients(*model, batch, type) - exact).norm().item<double>();
  };
  const double bfloat16 = error(at::kBFloat16), fp16 = error(at::kHalf), fp32 = error(at::kFloat);
  RecordProperty("relative_error_bfloat16", std::to_string(bfloat16 / exact.norm().item<double>()));
  EXPECT_LT(fp32, fp16 / 4);
  EXPECT_LT(fp16, bfloat16 / 4);
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
  {
    FrozenWeights frozen(*model, Precision::kBfloat16);
    for (const auto& [name, parameter] : named_parameters(*model)) {
      const bool halved = !name.starts_with("connector") && can_be_halved(name, parameter);
      EXPECT_EQ(parameter.scalar_type(), halved ? at::kBFloat16 : at::kFloat) << name;
      EXPECT_EQ(parameter.requires_grad(), name.starts_with("connector.")) << name;
    }
    const FrozenWeights::Unrounded whole(frozen);
    const auto saved = named_parameters(*model);
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_TRUE(saved[i].second.to(at::kFloat).equal(values[i].second)) << values[i].first;
  }
  for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(before[i].second.equal(values[i].second)) << values[i].first;
}

// A product rounds its weight anyway: where that loses nothing, how the weight lies in memory changes no bit of the
// loss, nor of the gradients, which reach the connector through the frozen language model, and nothing else.
TEST_P(MixedPrecision, HalvingFrozenMatricesChangesNothingThatRoundingHasNot) {
  round_weights();
  set_trainable(*model, {"connector"}, 1);
  const auto expected = gradients(*model, batch, Precision::kBfloat16);
  ASSERT_FALSE(expected.of_parameters.empty());
  const FrozenWeights frozen(*model, Precision::kBfloat16);
  const auto got = gradients(*model, batch, Precision::kBfloat16);
  EXPECT_TRUE(got.loss.equal(expected.loss));
  ASSERT_EQ(got.of_parameters.size(), expected.of_parameters.size());
  for (size_t i = 0; i < got.of_parameters.size(); ++i) {
    const auto& [name, gradient] = got.of_parameters[i];
    EXPECT_TRUE(name.starts_with("connector.")) << name;
    EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name;
    EXPECT_TRUE(gradient.equal(expected.of_parameters[i].second)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, MixedPrecision,
                         testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox));

}  // namespace
}  // namespace vlmamba
