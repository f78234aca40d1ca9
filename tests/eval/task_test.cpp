#include "vlmamba/eval/task.h"

#include <gtest/gtest.h>

#include "vlmamba/eval/evaluator.h"
#include "vlmamba/io/atomic_file.h"

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

// The code in docs/adding_a_task.md is compiled code, character by character.
TEST(Documents, AddingATaskShowsWhatIsCompiled) {
  const std::string root = VLMAMBA_SOURCE_DIR;
  const auto read = [&](const std::string& path) { return io::read_file(root + "/" + path, ExitCode::kIo); };
  const std::string page = read("docs/adding_a_task.md"),
                    compiled = read("tests/consumer/main.cpp") + read("src/eval/tasks/gqa.cpp");
  const std::string begin = "```cpp\n", end = "```\n";
  int blocks = 0;
  for (size_t at = page.find(begin); at != std::string::npos; at = page.find(begin, at), ++blocks) {
    at += begin.size();
    const std::string code = page.substr(at, page.find(end, at) - at);
    EXPECT_NE(compiled.find(code), std::string::npos) << code;
  }
  EXPECT_EQ(blocks, 3);
}

}  // namespace
}  // namespace vlmamba
