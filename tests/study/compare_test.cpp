#include "vlmamba/study/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/study/evaluated_run.h"

namespace vlmamba::study {
namespace {

using test::Folder;
using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

TEST(Compare, ConfigFirstThenScoresThenTheQuestionsThatDivide) {
  const Folder folder;
  test::write_evaluated_run(folder / "data", folder / "a", 1, "1", {"yes", "yes", "no", "no", "yes"});
  test::write_evaluated_run(folder / "data", folder / "b", 1, "2", {"yes", "no", "yes", "yes", "Yes "});
  const auto left = read_run((folder / "a").string()), right = read_run((folder / "b").string());
  const auto comparison = compare_runs(left, right, {}, {});
  ASSERT_THAT(comparison.config, SizeIs(1));
  EXPECT_EQ(comparison.config[0].key, "stages.instruct.lr");
  EXPECT_TRUE(comparison.data.empty());
  ASSERT_THAT(comparison.code, SizeIs(1));  // other weights
  ASSERT_THAT(comparison.tasks, SizeIs(1));
  const auto& task = comparison.tasks[0];
  EXPECT_EQ(task.questions, 5);
  EXPECT_EQ(task.both, 2);
  EXPECT_EQ(task.neither, 0);
  ASSERT_THAT(task.disagreements, SizeIs(3));
  EXPECT_EQ(task.disagreements[0].id, "<q>&1");
  EXPECT_TRUE(task.disagreements[0].left_is_right);
  EXPECT_FALSE(task.disagreements[1].left_is_right);
  EXPECT_DOUBLE_EQ(task.interval.difference, 20);
  EXPECT_LT(task.interval.low, 0);
  EXPECT_GT(task.interval.high, 20);
  const std::string text = to_text(comparison, left, right, 1);
  EXPECT_THAT(text, AllOf(HasSubstr("stages.instruct.lr: 1 | 2"), HasSubstr("only A right 1, only B right 2"),
                          HasSubstr("score 60.00 | 60.00")));
  EXPECT_LT(text.find("config"), text.find("tiny: score"));
}

TEST(Compare, OfOtherQuestionsOnlyTheCommonOnesCount) {
  const Folder folder;
  test::write_evaluated_run(folder / "data_a", folder / "a", 1, "1", {"yes", "yes", "no"});
  test::write_evaluated_run(folder / "data_b", folder / "b", 1, "1", {"yes", "no", "no", "no", "yes"});
  const auto comparison = compare_runs(read_run((folder / "a").string()), read_run((folder / "b").string()), {}, {});
  EXPECT_FALSE(comparison.data.empty());
  EXPECT_EQ(comparison.tasks.at(0).questions, 3);
  EXPECT_EQ(comparison.tasks.at(0).disagreements.size(), 1u);
}

TEST(Compare, TheProgramTellsWhatIsNoRun) {
  const Folder folder;
  const auto outcome = test::vlmamba({"compare", folder.text(), folder.text()});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("expected a run (a folder with config.json), got none"));
}

}  // namespace
}  // namespace vlmamba::study
