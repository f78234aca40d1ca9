#include "vlmamba/eval/task.h"

#include <gtest/gtest.h>

#include "vlmamba/eval/evaluator.h"

namespace vlmamba {
namespace {

TEST(ExactMatch, ForgivesCaseAndSurroundingSpaceOnly) {
  EXPECT_TRUE(exact_match(" Top left\n", "top left"));
  EXPECT_FALSE(exact_match("top  left", "top left"));
  EXPECT_FALSE(exact_match("top left.", "top left"));
  EXPECT_FALSE(exact_match("", "0"));
}

TEST(Table, HasARowForEachCategoryOfAnyTask) {
  TaskResult real{"real", 75, 4, {{"what", 50}, {"where", 100}}}, blank{"blank", 0, 4, {{"what", 0}}};
  EXPECT_EQ(to_table({real, blank}),
            "  score        real   blank\n"
            "  what         50.0     0.0\n"
            "  where       100.0       -\n"
            "  all          75.0     0.0\n");
}

}  // namespace
}  // namespace vlmamba
