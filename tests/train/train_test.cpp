#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numbers>

#include "vlmamba/core/error.h"
#include "vlmamba/nn/linear.h"
#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/nn/norm.h"
#include "vlmamba/train/lr_schedule.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {
namespace {

using at::Tensor;

TEST(LrSchedule, IsHuggingFaces) {
  ScheduleConfig cosine;
  cosine.warmup_ratio = 0.03;
  EXPECT_EQ(lr_factor(cosine, 0, 100), 0);
  EXPECT_DOUBLE_EQ(lr_factor(cosine, 2, 100), 2.0 / 3);
  EXPECT_EQ(lr_factor(cosine, 3, 100), 1);
  EXPECT_DOUBLE_EQ(lr_factor(cosine, 50, 100), 0.5 * (1 + std::cos(std::numbers::pi * 47 / 97)));
  ScheduleConfig linear{ScheduleKind::kLinear, 0, 10};
  EXPECT_DOUBLE_EQ(lr_factor(linear, 5, 110), 0.5);
  EXPECT_DOUBLE_EQ(lr_factor(linear, 60, 110), 0.5);
  EXPECT_EQ(lr_factor({ScheduleKind::kConstant, 0, 0}, 99, 100), 1);
}

TEST(Stage, StepsFollowFromEpochs) {
  StageConfig stage;
  stage.batch.global_batch = 256;
  EXPECT_EQ(planned_steps(stage, 558128), 2181);
  stage.batch.global_batch = 128;
  EXPECT_EQ(planned_steps(stage, 665298), 5198);
  stage.steps = 7;
  EXPECT_EQ(planned_steps(stage, 665298), 7);
}

struct Net : torch::nn::Module {
  Net() {
    first = register_module("connector", std::make_shared<nn::Linear>(3, 4));
    second = register_module("language_model", std::make_shared<nn::Linear>(4, 2));
  }
  std::shared_ptr<nn::Linear> first, second;
};

// AdamW written down from the paper, with the gradients' norm clipped before.
TEST(Optimizer, EqualsTheFormulasForManySteps) {
  at::manual_seed(1);
  Net net;
  net.to(at::kDouble);
  OptimizerConfig config;
  config.lr = 0.02;
  config.weight_decay = 0.1;
  config.clip = 0.5;
  config.parts["connector"].lr = 0.05;
  Optimizer optimizer(net, config);
  NamedTensors own;
  std::vector<Tensor> m, v;
  for (const auto& [name, parameter] : named_parameters(net)) {
    own.emplace_back(name, parameter.detach().clone());
    m.push_back(at::zeros_like(own.back().second));
    v.push_back(at::zeros_like(own.back().second));
  }
  const Tensor x = at::randn({5, 3}, at::kDouble);
  for (int step = 1; step <= 12; ++step) {
    optimizer.zero_grad();
    torch::autograd::backward({net.second->forward(net.first->forward(x)).square().sum()}, {});
    double square = 0;
    std::vector<Tensor> gradients;
    for (const auto& [name, parameter] : named_parameters(net)) {
      gradients.push_back(parameter.grad().clone());
      square += gradients.back().square().sum().item<double>();
    }
    EXPECT_NEAR(optimizer.clip_gradients(), std::sqrt(square), 1e-12);
    const double factor = 1.0 / step, clip = std::min(1.0, 0.5 / (std::sqrt(square) + 1e-6));
    optimizer.step(factor);
    for (size_t i = 0; i < own.size(); ++i) {
      auto& [name, p] = own[i];
      const double lr = factor * (name.starts_with("connector") ? 0.05 : 0.02);
      const Tensor g = gradients[i] * clip;
      if (p.dim() > 1) p.mul_(1 - lr * 0.1);
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      p -= lr * (m[i] / (1 - std::pow(0.9, step))) / ((v[i] / (1 - std::pow(0.999, step))).sqrt() + 1e-8);
    }
  }
  const auto theirs = named_parameters(net);
  for (size_t i = 0; i < own.size(); ++i)
    EXPECT_LT((own[i].second - theirs[i].second).abs().max().item<double>(), 1e-10) << own[i].first;
}

TEST(Optimizer, NeverDecaysStateSpacesNormsAndBiases) {
  const nn::MambaMixer mixer({8, 4, 4, 2, 0});
  for (const auto& [name, parameter] : named_parameters(mixer)) {
    const bool matrix = name == "in_proj.weight" || name == "x_proj.weight" || name == "dt_proj.weight" ||
                        name == "out_proj.weight" || name == "conv1d.weight";
    EXPECT_EQ(is_decayed(name, parameter), matrix) << name;
  }
  const nn::Norm norm(nn::NormKind::kLayerNorm, 8, 1e-5);
  for (const auto& [name, parameter] : named_parameters(norm)) EXPECT_FALSE(is_decayed(name, parameter)) << name;
}

}  // namespace
}  // namespace vlmamba
