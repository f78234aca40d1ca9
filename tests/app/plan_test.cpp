#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::TinyRun;
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
  // SigLIP without the last block, post_layernorm and head, which are not run: 412,987,248 less 15,239,504 and 2,304.
  EXPECT_THAT(outcome.out, HasSubstr("vision_encoder      397745440 parameters  frozen"));
  EXPECT_THAT(outcome.out, HasSubstr("729 patches a picture"));
  EXPECT_THAT(outcome.out, HasSubstr("stage align: 2181 steps of 256 records"));
  EXPECT_THAT(outcome.out, HasSubstr("stage instruct: 5198 steps of 128 records"));
  EXPECT_THAT(outcome.out, HasSubstr("66 steps of warm-up to 0.001, then down to 0 at step 2181"));
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
