#include "vlmamba/train/trainable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/tiny_model.h"
#include "vlmamba/core/error.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {
namespace {

using at::Tensor;
using test::gradients;
using testing::HasSubstr;

Trainable lora_on(const std::string& part, LoraConfig lora = {4, 8, 0, {}}) {
  Trainable trainable;
  trainable.parts[part].lora = std::move(lora);
  return trainable;
}

std::vector<std::string> training(const VlMamba& model) {
  std::vector<std::string> names;
  for (const auto& [name, parameter] : named_parameters(model))
    if (parameter.requires_grad()) names.push_back(name);
  return names;
}

class Lora : public testing::TestWithParam<LanguageKind> {
 protected:
  std::shared_ptr<VlMamba> model = build_model(test::tiny_model(GetParam()), 3);
  Batch batch = test::tiny_batch();
};

TEST_P(Lora, ChangesNothingUntilItLearns) {
  const double before = model->loss(batch).loss_sum.item<double>();
  set_trainable(*model, lora_on("language_model"), 1);
  set_dropout_draw(*model, 5);
  EXPECT_EQ(model->loss(batch).loss_sum.item<double>(), before);
}

TEST_P(Lora, OnlyItsMatricesTrain) {
  set_trainable(*model, lora_on("language_model"), 1);
  const auto names = training(*model);
  EXPECT_FALSE(names.empty());
  for (const auto& name : names) EXPECT_TRUE(name.ends_with("lora_A") || name.ends_with("lora_B")) << name;
  const auto result = gradients(*model, batch);
  EXPECT_EQ(result.of_parameters.size(), names.size());
}

TEST_P(Lora, MergedEqualsUnmerged) {
  set_trainable(*model, lora_on("language_model"), 1);
  const c10::AutoGradMode no_grad(false);
  for (auto& [name, parameter] : named_parameters(*model))
    if (name.ends_with("lora_B")) Tensor(parameter).normal_(0, 0.05);
  const Tensor unmerged = model->logits(batch);
  const size_t parameters = model->parameters().size();
  merge_lora(*model);
  EXPECT_LT(model->parameters().size(), parameters);
  const Tensor merged = model->logits(batch);
  const Tensor real = batch.seq_idx.ge(0).unsqueeze(-1) & unmerged.isfinite();
  EXPECT_LT((merged - unmerged).masked_select(real).abs().max().item<double>(), 2e-5);
  EXPECT_GT((merged - build_model(test::tiny_model(GetParam()), 3)->logits(batch))
                .masked_select(real)
                .abs()
                .max()
                .item<double>(),
            1e-3);
}

TEST_P(Lora, DropoutFollowsFromItsDrawAlone) {
  set_trainable(*model, lora_on("language_model", {4, 8, 0.5, {}}), 1);
  const c10::AutoGradMode no_grad(false);
  for (auto& [name, parameter] : named_parameters(*model))
    if (name.ends_with("lora_B")) Tensor(parameter).normal_(0, 0.5);
  const auto loss = [&](std::optional<uint64_t> draw) {
    set_dropout_draw(*model, draw);
    at::randn({7});  // moves the default generator
    return model->loss(batch).loss_sum.item<double>();
  };
  const double first = loss(1), second = loss(2), none = loss(std::nullopt);
  EXPECT_EQ(loss(1), first);
  EXPECT_NE(first, second);
  EXPECT_NE(first, none);
  EXPECT_EQ(loss(std::nullopt), none);
}

INSTANTIATE_TEST_SUITE_P(All, Lora,
                         testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox));

TEST(Trainable, TargetsAreLayersByName) {
  const auto model = build_model(test::tiny_model(), 3);
  set_trainable(*model, lora_on("language_model", {4, 8, 0, {"in_proj", "3.mixer.dt_proj"}}), 1);
  EXPECT_EQ(training(*model).size(), 2 * (4 + 1u));
  merge_lora(*model);
  try {
    set_trainable(*model, lora_on("language_model", {4, 8, 0, {"q_proj"}}), 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected some of dt_proj, in_proj, out_proj, x_proj, got q_proj"));
  }
}

TEST(Trainable, LastBlocksAndWhatFollowsThem) {
  const auto model = build_model(test::tiny_model(), 3);
  Trainable trainable;
  trainable.parts["language_model"].last_blocks = 1;
  set_trainable(*model, trainable, 1);
  for (const auto& name : training(*model))
    EXPECT_TRUE(name.starts_with("language_model.backbone.layers.3.") ||
                name == "language_model.backbone.norm_f.weight")
        << name;
  EXPECT_EQ(training(*model).size(),
            11u);  // norm, in_proj, conv1d (2), x_proj, dt_proj (2), A_log, D, out_proj, norm_f
  trainable.parts["language_model"].last_blocks = 5;
  EXPECT_THROW(set_trainable(*model, trainable, 1), Error);
  trainable.parts["language_model"].last_blocks = 0;
  trainable.parts["connector"].last_blocks = 1;
  EXPECT_THROW(set_trainable(*model, trainable, 1), Error);
}

TEST(Trainable, OtherPartsAreFrozen) {
  const auto model = build_model(test::tiny_model(), 3);
  set_trainable(*model, {"connector"}, 1);
  for (const auto& [name, parameter] : named_parameters(*model))
    EXPECT_EQ(parameter.requires_grad(), name.starts_with("connector.")) << name;
  EXPECT_THROW(set_trainable(*model, {"projector"}, 1), Error);
  EXPECT_THROW(set_trainable(*model, {}, 1), Error);
}

StageConfig stage_of(const std::string& text) {
  return io::from_json<StageConfig>(io::parse_json(text, "test", ExitCode::kUsage), "test");
}

TEST(Trainable, IsAnArrayOrAnObjectInAConfig) {
  const auto array = stage_of(R"({"trainable": ["connector", "language_model"]})");
  EXPECT_EQ(array.trainable.parts.size(), 2u);
  EXPECT_EQ(io::write_config(array).find("trainable")->to_string(), R"(["connector", "language_model"])");

  const auto object = stage_of(R"({"trainable": {"connector": "all",
      "language_model": {"lora": {"r": 16, "alpha": 32, "target_modules": ["in_proj"]}},
      "vision_encoder": {"last_blocks": 2}}})");
  const auto& parts = object.trainable.parts;
  EXPECT_FALSE(parts.at("connector").lora);
  EXPECT_EQ(parts.at("language_model").lora->r, 16);
  EXPECT_EQ(parts.at("language_model").lora->dropout, 0.05);
  EXPECT_EQ(parts.at("vision_encoder").last_blocks, 2);
  const auto again = stage_of(io::write_config(object).to_string());
  EXPECT_EQ(io::write_config(again).to_string(), io::write_config(object).to_string());

  for (const auto& [text, message] :
       {std::pair{R"({"trainable": {"connector": "some"}})", "trainable.connector: expected an object"},
        std::pair{R"({"trainable": {"connector": {"lora": {"rank": 4}}}})",
                  "trainable.connector.lora.rank: unknown key"},
        std::pair{R"({"trainable": "connector"})", "expected an array of parts, or an object by part"}})
    try {
      stage_of(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
}

}  // namespace
}  // namespace vlmamba
