#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::TinyRun;
using testing::ContainsRegex;
using testing::HasSubstr;

const std::string kConfigs = std::string(VLMAMBA_SOURCE_DIR) + "/configs";

// Every committed config of a run; sweeps are none.
std::vector<std::string> recipes() {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".json") continue;
    const auto config = io::parse_json(test::read(entry.path()), entry.path().string(), ExitCode::kUsage, true);
    if (config.find("stages")) found.push_back(fs::relative(entry.path(), kConfigs).string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

class Recipe : public testing::TestWithParam<std::string> {};

// In a folder where no weights and records are.
TEST_P(Recipe, IsPlannedWithoutWeightsAndRecords) {
  const test::Folder folder;
  const auto outcome = test::vlmamba({"train", "--dry-run", "--config", kConfigs + "/" + GetParam(), "--set",
                                      "data_root=" + folder.text(), "--set", "weights_root=" + folder.text()});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* word : {"parameters", "steps of", "group", "schedule", "weights", "gradients", "optimizer",
                           "activations", "as configured", "TFLOP a step"})
    EXPECT_THAT(outcome.out, HasSubstr(word));
}

INSTANTIATE_TEST_SUITE_P(All, Recipe, testing::ValuesIn(recipes()), [](const auto& recipe) {
  std::string name = recipe.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

TEST(Plan, OfThePapersModelNamesThePublishedSizes) {
  const auto outcome = test::vlmamba({"train", "--dry-run", "--config", kConfigs + "/vl_mamba.json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("language_model     2768345600 parameters  frozen"));
  EXPECT_THAT(outcome.out, HasSubstr("language_model     2768345600 parameters  trains"));
  // SigLIP without what is not run: the last block (15,239,504), the norm behind it (2,304), the pooling head.
  EXPECT_THAT(outcome.out, HasSubstr("vision_encoder      397745440 parameters  frozen"));
  EXPECT_THAT(outcome.out, HasSubstr("the first 26 of 27 blocks; all of them, and the norm behind: 412987248; with "
                                     "SigLIP's pooling head: 428225600"));
  EXPECT_THAT(outcome.out, HasSubstr("729 patches a picture"));
  EXPECT_THAT(outcome.out, HasSubstr("stage align: 2181 steps of 256 records"));
  EXPECT_THAT(outcome.out, HasSubstr("stage instruct: 5198 steps of 128 records"));
  EXPECT_THAT(outcome.out, HasSubstr("66 steps of warm-up to 0.001, then down to 0 at step 2181"));
}

// The published checkpoints' own lists of tensors, counted.
TEST(Plan, CountsParametersAsPublished) {
  const std::string manifest = std::string(VLMAMBA_SHARED_DATA) + "/checkpoints/key_manifest.json";
  if (!fs::exists(manifest)) GTEST_SKIP() << "no " << manifest;
  const auto published = io::read_json(manifest, ExitCode::kData);
  const auto count = [&](const std::string& model, const char* what) {
    return published.find(model)->find(what)->to_string();
  };
  const std::string siglip = "google/siglip-so400m-patch14-384", clip = "openai/clip-vit-large-patch14-336";
  struct Case {
    std::string config, language, vision;
  };
  for (const auto& [config, language, vision] :
       {Case{"vl_mamba", "state-spaces/mamba-2.8b-slimpj",
             count(siglip, "parameters_without_head") + "; with SigLIP's pooling head: " + count(siglip, "parameters")},
        Case{"ablations/clip_mlp_mamba_1.4b", "state-spaces/mamba-1.4b", count(clip, "parameters")},
        Case{"small/siglip_base_mamba_130m", "state-spaces/mamba-130m", ""}}) {
    const auto outcome = test::vlmamba({"train", "--dry-run", "--config", kConfigs + "/" + config + ".json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(count(language, "parameters") + " parameters"));
    EXPECT_THAT(outcome.out, HasSubstr("and the norm behind: " + vision));
  }
}

// LLaVA's scripts/v1_5/finetune_lora.sh, as docs/training.md says it.
TEST(Plan, OfLlavasLoraRecipe) {
  const auto outcome = test::vlmamba(
      {"train", "--dry-run", "--config", kConfigs + "/vl_mamba.json", "--stage", "instruct", "--set",
       R"(stages.instruct.trainable={"connector": "all", "language_model": {"lora": {"r": 128, "alpha": 256, "dropout": 0.05}}})",
       "--set", "stages.instruct.optimizer.lr=2e-4", "--set",
       R"(stages.instruct.optimizer.parts={"connector": {"lr": 2e-5}})"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  // in_proj 2560 -> 10240, x_proj 5120 -> 192, dt_proj 160 -> 5120, out_proj 5120 -> 2560: r (in + out) of 64 blocks.
  constexpr int64_t kLora = 64 * 128 * (2560 + 10240 + 5120 + 192 + 160 + 5120 + 5120 + 2560);
  EXPECT_THAT(outcome.out, HasSubstr(std::to_string(kLora) + " of them train"));
  EXPECT_THAT(outcome.out, ContainsRegex("group language_model +lr 0.0002 "));
  EXPECT_THAT(outcome.out, ContainsRegex("group connector +lr 2e-05 "));
  EXPECT_THAT(outcome.out, HasSubstr("instead as a whole"));
}

// Ten rows of four tables, three of them shared: seven runs, each with a recipe of its own, which can be planned alone.
TEST(PaperSweep, FindsItsSevenRecipes) {
  const auto before = fs::current_path();
  fs::current_path(VLMAMBA_SOURCE_DIR);
  const auto outcome = test::vlmamba({"sweep", "--config", "configs/ablations/paper.json", "--dry-run"});
  fs::current_path(before);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  int runs = 0;
  for (const auto& recipe : recipes()) {
    if (!recipe.starts_with("ablations/")) continue;
    ++runs;
    EXPECT_THAT(outcome.out, HasSubstr(fs::path(recipe).stem().string())) << outcome.out;
  }
  EXPECT_EQ(runs, 7);
}

TEST(Plan, ShowsWhatLoraWouldSave) {
  const TinyRun tiny;
  const auto outcome = test::vlmamba({"train", "--dry-run", "--config", tiny.config, "--stage", "instruct", "--set",
                                      "output_dir=" + tiny.run(), "--set", "data_root=" + tiny.data, "--set",
                                      R"(stages.instruct.trainable={"language_model": {"lora": {"r": 4}}})"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("of them train"));
  EXPECT_THAT(outcome.out, HasSubstr("instead as a whole"));
  EXPECT_THAT(outcome.out, HasSubstr("12 records"));
  EXPECT_FALSE(fs::exists(tiny.run()));
}

}  // namespace
}  // namespace vlmamba
