#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <sstream>

#include "tests/app/tiny_run.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;

TEST(NonFinite, AStepIsKeptAndReplayedModuleByModule) {
  const TinyRun tiny;
  const auto outcome = tiny.train({"stages.align.optimizer.lr=1e30", "stages.align.schedule.kind=constant",
                                   "stages.align.schedule.warmup_ratio=0", "stages.align.optimizer.clip=0"});
  ASSERT_EQ(outcome.code, 5);
  const std::string dump = tiny.run() + "/align/nonfinite_step_2";
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("stage align, step 2] loss: expected a finite number"),
                    HasSubstr("first not finite: the output of connector."),
                    HasSubstr("the weights were not changed, samples: r"), HasSubstr("vlmamba replay " + dump)));
  EXPECT_EQ(test::vlmamba({"inspect", dump}).code, 0);
  const auto replayed = test::vlmamba({"replay", dump, "--dtype", "float32"});
  ASSERT_EQ(replayed.code, 0) << replayed.err;
  EXPECT_THAT(replayed.out, AllOf(HasSubstr("step 2: loss was"), HasSubstr("first not finite then: the output of"),
                                  HasSubstr("max |x|"), HasSubstr("connector."), HasSubstr("\nreproduced")));
  const auto doubled = test::vlmamba({"replay", dump, "--all"});
  ASSERT_EQ(doubled.code, 0) << doubled.err;
  EXPECT_THAT(doubled.out, AllOf(HasSubstr("float64, cpu"), HasSubstr("vision_encoder")));

  // The run itself is whole: the step before is its newest checkpoint.
  EXPECT_TRUE(fs::exists(tiny.run() + "/align/checkpoints/step_00000001"));
  EXPECT_FALSE(fs::exists(tiny.run() + "/align/checkpoints/step_00000002"));
  EXPECT_EQ(test::vlmamba({"train", "--resume", tiny.run()}).code, 5);
}

// What the log tells of each step whose loss stands out.
std::map<int, std::string> told_spikes(const std::string& log) {
  std::map<int, std::string> told;
  std::istringstream lines(log);
  const std::string begin = "warning: step ";
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(begin)) told[std::stoi(line.substr(begin.size()))] = line;
  return told;
}

TEST(NonFinite, ALossThatStandsOutIsLoggedWithItsSamples) {
  const TinyRun tiny;
  const auto outcome =
      tiny.train({"stages.align.loss_spike.window=3", "stages.align.loss_spike.deviations=0.1", "stages.align.steps=20",
                  "stages.align.optimizer.lr=0.2", "stages.align.schedule.kind=constant"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("stands out: the 3 losses before have mean"), HasSubstr("; samples: r")));

  // A resumed run compares with the losses of the one before.
  const auto told = told_spikes(outcome.err);
  ASSERT_GT(told.size(), 2u);
  for (const int step : {told.begin()->first - 1, std::next(told.begin())->first - 1}) {
    const std::string run = tiny.run("cut" + std::to_string(step));
    fs::copy(tiny.run(), run, fs::copy_options::recursive);
    fs::remove_all(run + "/instruct");
    for (const auto& entry : fs::directory_iterator(run + "/align/checkpoints"))
      if (const auto name = entry.path().filename().string();
          name.starts_with("step_") && std::stoi(name.substr(5)) > step)
        fs::remove_all(entry.path());
    const auto resumed = test::vlmamba({"train", "--resume", run});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    auto expected = told;
    std::erase_if(expected, [&](const auto& spike) { return spike.first <= step; });
    EXPECT_EQ(told_spikes(resumed.err), expected);
  }
}

}  // namespace
}  // namespace vlmamba
