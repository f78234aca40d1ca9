#include "vlmamba/nn/forward_trace.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <set>

#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/model/weights.h"

namespace vlmamba {
namespace {

std::shared_ptr<VlMamba> tiny_model(LanguageKind kind) {
  ModelConfig config;
  auto& encoder = config.vision_encoder;
  encoder.image_size = 8, encoder.patch_size = 4, encoder.hidden_size = 8, encoder.intermediate_size = 16;
  encoder.num_layers = 2, encoder.num_heads = 2;
  config.connector.vss.d_state = 4;
  auto& language = config.language_model;
  language.kind = kind;
  language.vocab_size = 37, language.hidden_size = 16, language.num_layers = 2, language.d_state = 4;
  language.mamba2.head_dim = 8;
  language.gpt_neox.num_heads = 2, language.gpt_neox.intermediate_size = 32;
  return build_model(config, 1);
}

Batch tiny_batch() {
  Batch batch;
  batch.pixel_values = at::rand({1, 3, 8, 8});
  batch.input_ids = at::cat({at::full({1, 4}, kImageToken, at::kLong), at::arange(6).view({1, 6})}, 1);
  batch.labels = batch.input_ids.clone().masked_fill_(batch.input_ids.lt(0), kIgnoreIndex);
  batch.seq_idx = at::zeros({1, 10}, at::kInt);
  return batch;
}

class Trace : public testing::TestWithParam<LanguageKind> {};

TEST_P(Trace, AHealthyModelHasNoneThoughItsPaddedLogitsAreInfinite) {
  const auto model = tiny_model(GetParam());
  const nn::ForwardTrace trace(*model);
  model->loss(tiny_batch());
  EXPECT_FALSE(trace.first_non_finite().has_value());
  std::set<std::string> modules;
  for (const auto& row : trace.rows()) {
    EXPECT_EQ(row.non_finite, 0) << row.module;
    modules.insert(row.module);
  }
  EXPECT_TRUE(modules.contains("connector.linear_in"));
}

// NaN in any parameter is found in the first op that takes it.
TEST_P(Trace, ADamagedParameterIsNamedByItsModule) {
  const auto model = tiny_model(GetParam());
  const Batch batch = tiny_batch();
  const at::NoGradGuard no_grad;
  int planted = 0;
  for (const auto& [name, parameter] : named_parameters(*model)) {
    const at::Tensor kept = parameter.clone();
    parameter.fill_(std::numeric_limits<double>::quiet_NaN());
    {
      const nn::ForwardTrace trace(*model);
      model->loss(batch);
      const auto& found = trace.first_non_finite();
      ASSERT_TRUE(found.has_value()) << name;
      EXPECT_TRUE(!found->module.empty() && name.starts_with(found->module)) << name << " found in " << found->module;
      EXPECT_GT(found->non_finite, 0);
    }
    parameter.copy_(kept);
    ++planted;
  }
  std::printf("damaged parameters named by their module: %d of %d\n", planted, planted);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Trace,
                         testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox),
                         [](const auto& info) {
                           std::string name(enum_name(info.param));
                           name.erase(std::remove(name.begin(), name.end(), '_'), name.end());
                           return name;
                         });

}  // namespace
}  // namespace vlmamba
