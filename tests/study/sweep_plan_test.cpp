#include "vlmamba/study/sweep_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vlmamba/study/config_difference.h"
#include "vlmamba/study/run_folder.h"

namespace vlmamba::study {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

io::Json config_of(const std::string& model, const std::string& align, const std::string& instruct,
                   const std::string& eval = "1") {
  const std::string text = R"({"seed": 1, "output_dir": "/out/)" + model + align + instruct + eval +
                           R"(", "model": ")" + model + R"(", "stages": [{"name": "align", "lr": )" + align +
                           R"(}, {"name": "instruct", "lr": )" + instruct + R"(}], "eval": {"batch": )" + eval +
                           R"(, "tasks": [{"name": "t"}]}})";
  return io::parse_json(text, "config", ExitCode::kUsage);
}

PlannedRun run_of(const io::Json& config) {
  const std::string folder = config.find("output_dir")->as_string();
  return {folder, folder, 1, folder, config, "", "", 0};
}

const PlannedRun& run_at(const std::vector<PlannedRun>& plan, const std::string& folder) {
  for (const auto& run : plan)
    if (run.folder == folder) return run;
  throw std::runtime_error("no run at " + folder);
}

TEST(SweepPlan, RunsThatDifferFromTheStartShareNothing) {
  const auto plan = share_equal_stages({run_of(config_of("a", "1", "1")), run_of(config_of("b", "1", "1"))}, "/s");
  ASSERT_THAT(plan, SizeIs(2));
  EXPECT_EQ(plan[0].links_from, "");
  EXPECT_EQ(plan[1].links_from, "");
}

TEST(SweepPlan, EqualBeginningsAreTrainedOnce) {
  const auto plan = share_equal_stages(
      {run_of(config_of("a", "1", "1")), run_of(config_of("a", "1", "2")), run_of(config_of("a", "2", "1"))}, "/s");
  ASSERT_THAT(plan, SizeIs(4));
  const auto& shared = plan[0];
  EXPECT_EQ(shared.cell, "");
  EXPECT_THAT(stage_names(shared.config), ElementsAre("align"));
  EXPECT_TRUE(task_names(shared.config).empty());
  EXPECT_EQ(shared.config.find("output_dir")->as_string(), shared.folder);
  for (const char* folder : {"/out/a111", "/out/a121"}) {
    EXPECT_EQ(run_at(plan, folder).links_from, shared.folder);
    EXPECT_EQ(run_at(plan, folder).linked_stages, 1u);
    EXPECT_THAT(task_names(run_at(plan, folder).config), ElementsAre("t"));
  }
  EXPECT_EQ(run_at(plan, "/out/a211").links_from, "");
}

// Two evaluations of one training, and a third run that has its first stage: a tree of shared beginnings.
TEST(SweepPlan, SharedBeginningsShareTheirOwnBeginnings) {
  const auto plan = share_equal_stages({run_of(config_of("a", "1", "1", "1")), run_of(config_of("a", "1", "1", "2")),
                                        run_of(config_of("a", "1", "2", "1"))},
                                       "/s");
  ASSERT_THAT(plan, SizeIs(5));
  const auto& align = plan[0];
  const auto& both = plan[1];
  EXPECT_THAT(stage_names(align.config), ElementsAre("align"));
  EXPECT_THAT(stage_names(both.config), ElementsAre("align", "instruct"));
  EXPECT_EQ(both.links_from, align.folder);
  EXPECT_EQ(run_at(plan, "/out/a111").links_from, both.folder);
  EXPECT_EQ(run_at(plan, "/out/a112").linked_stages, 2u);
  EXPECT_EQ(run_at(plan, "/out/a121").links_from, align.folder);
}

TEST(SweepPlan, TheSeedSeparates) {
  auto other = config_of("a", "1", "2");
  other.set("seed", 2);
  EXPECT_THAT(share_equal_stages({run_of(config_of("a", "1", "1")), run_of(other)}, "/s"), SizeIs(2));
}

TEST(ConfigDifferences, NameLeavesAndMatchElementsByName) {
  const auto left = io::parse_json(R"({"a": {"b": 1, "c": [1, 2]}, "stages": [{"name": "x", "lr": 1}, {"name": "y"}]})",
                                   "left", ExitCode::kUsage);
  const auto right =
      io::parse_json(R"({"a": {"b": 1, "c": [1, 3]}, "stages": [{"name": "y"}, {"name": "x", "lr": 2}], "d": "t"})",
                     "right", ExitCode::kUsage);
  std::vector<std::string> found;
  for (const auto& difference : config_differences(left, right))
    found.push_back(difference.key + ": " + difference.left + " | " + difference.right);
  EXPECT_THAT(found, ElementsAre("a.c: [1, 2] | [1, 3]", "stages.x.lr: 1 | 2", "d:  | \"t\""));
}

}  // namespace
}  // namespace vlmamba::study
