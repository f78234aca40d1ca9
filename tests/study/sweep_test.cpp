#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "tests/app/tiny_run.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Two cells that differ in the second stage, beside whatever `more` says.
std::string sweep_text(const TinyRun& tiny, const std::string& more) {
  return R"({"base": ")" + tiny.config + R"(", "output_dir": ")" + tiny.run("sweep") + R"(", "set": {"data_root": ")" +
         tiny.data + R"("}, )" + more + "}";
}

constexpr const char* kTwoCells =
    R"("axes": [{"name": "warmup", "key": "stages.instruct.schedule.warmup_steps", "values": [0, 2]}])";

std::vector<std::string> sweep_arguments(const TinyRun& tiny) {
  return {VLMAMBA_PROGRAM, "sweep", "--config", (tiny.folder / "sweep.json").string()};
}

// A process of the program, its output in a file: a sweep starts its own program.
pid_t start(std::vector<std::string> arguments, const std::string& output) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  for (FILE* stream : {stdout, stderr})
    if (::freopen(output.c_str(), "a", stream) == nullptr) ::_exit(126);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

test::Outcome sweep(const TinyRun& tiny, const std::vector<std::string>& more = {}) {
  const std::string output = (tiny.folder / "sweep.txt").string();
  fs::remove(output);
  auto arguments = sweep_arguments(tiny);
  arguments.insert(arguments.end(), more.begin(), more.end());
  int status = 0;
  ::waitpid(start(arguments, output), &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, "", read(output)};
}

std::string weights(const std::string& run, const std::string& stage = "instruct") {
  return read(run + "/" + stage + "/checkpoints/step_00000005/model.safetensors");
}

TEST(Sweep, TrainsEqualStagesOnceAndEveryRunIsWhatItWouldBeAlone) {
  const TinyRun tiny;
  test::write(tiny.folder / "sweep.json", sweep_text(tiny, kTwoCells));
  const auto outcome = sweep(tiny);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("3 of 3 runs are finished (0 were already)"));
  const std::string cell = tiny.run("sweep") + "/cells/warmup_2/seed_1";
  ASSERT_EQ(tiny.train({"seed=1", "stages.instruct.schedule.warmup_steps=2"}, "alone").code, 0);
  EXPECT_TRUE(weights(cell) == weights(tiny.run("alone")));
  for (const char* stage : {"align", "instruct"})
    EXPECT_EQ(read(cell + "/" + stage + "/metrics.jsonl"), read(tiny.run("alone") + "/" + stage + "/metrics.jsonl"));
  EXPECT_TRUE(fs::exists(cell + "/eval/instruct_step_5/tiny/results.json"));
  EXPECT_THAT(read(cell + "/output.txt"), Not(HasSubstr("align: ")));  // it was trained elsewhere
  for (const char* suffix : {"html", "csv", "md"})
    EXPECT_THAT(read(tiny.run("sweep") + "/report." + suffix), HasSubstr("tiny")) << suffix;

  const auto again = sweep(tiny);
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, AllOf(HasSubstr("(3 were already)"), Not(HasSubstr(": train"))));
}

TEST(Sweep, GoesOnAfterKill9AsIfNothingHadHappened) {
  const TinyRun tiny;
  test::write(tiny.folder / "sweep.json", sweep_text(tiny, kTwoCells));
  const std::string base = tiny.run("sweep") + "/cells/base/seed_1";
  const pid_t child = start(sweep_arguments(tiny), "/dev/null");
  for (int i = 0; i < 1200 && !fs::exists(base + "/instruct/checkpoints/step_00000002"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_FALSE(fs::exists(tiny.run("sweep") + "/cells/warmup_2"));
  const auto outcome = sweep(tiny);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("3 of 3 runs are finished"));
  ASSERT_EQ(tiny.train({"seed=1"}, "alone").code, 0);
  EXPECT_TRUE(weights(base) == weights(tiny.run("alone")));
  EXPECT_EQ(read(base + "/instruct/metrics.jsonl"), read(tiny.run("alone") + "/instruct/metrics.jsonl"));
}

TEST(Sweep, ARunThatFailsIsNamedAndTheOthersGoOn) {
  const TinyRun tiny;
  test::write(tiny.folder / "sweep.json",
              sweep_text(tiny, R"("cells": [{"name": "bad", "set": {"stages.align.data.sets.tiny.records": "no.json"}},
                                            {"name": "good"}])"));
  const auto outcome = sweep(tiny);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("1 of 2 runs are finished"), HasSubstr("failed: bad, seed 1: "), HasSubstr("no.json")));
  EXPECT_TRUE(fs::exists(tiny.run("sweep") + "/cells/good/seed_1/eval/instruct_step_5/blind/results.json"));
}

TEST(Sweep, AFolderOfOtherRunsIsRefusedAndAnotherEvaluationIsNoOtherRun) {
  const TinyRun tiny;
  test::write(tiny.folder / "sweep.json", sweep_text(tiny, R"("cells": [{"name": "only"}])"));
  ASSERT_EQ(sweep(tiny).code, 0);
  const auto other = sweep(tiny, {"--set", "stages.instruct.optimizer.lr=0.5"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("stages.instruct.optimizer.lr was 0.001, now 0.5"));
  const auto asked = sweep(tiny, {"--set", "eval.tasks.tiny.limit=3"});
  ASSERT_EQ(asked.code, 0) << asked.err;
  EXPECT_THAT(asked.err, AllOf(HasSubstr("only, seed 1: evaluate"), Not(HasSubstr("only, seed 1: train"))));
  EXPECT_THAT(read(tiny.run("sweep") + "/cells/only/seed_1/eval/instruct_step_5/tiny/results.json"),
              HasSubstr("\"num_questions\": 3"));
}

// Text alone trains the language model, whatever connector stands beside it.
TEST(Sweep, ADeclaredStageIsSharedByRunsOfDifferentConnectors) {
  const TinyRun tiny;
  test::write(tiny.data + "/words.json",
              R"([{"id": "w", "conversations": [{"from": "human", "value": "is there a 3?"},
                                                {"from": "gpt", "value": "yes"}]}])");
  const std::string words = R"("stages.align.trainable": ["language_model"], "stages.align.data.sets.tiny.records": )";
  const auto text = [&](const std::string& records) {
    return R"({"base": ")" + tiny.config + R"(", "output_dir": ")" + tiny.run("sweep") +
           R"(", "set": {"data_root": ")" + tiny.data + R"(", )" + words + "\"" + records +
           R"("}, "shared_stages": ["align"], "axes": [{"key": "model.connector.kind", "values": ["mlp", "vss_l2"]}]})";
  };
  test::write(tiny.folder / "sweep.json", text("records.json"));
  const auto refused = sweep(tiny);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("expected records without pictures in stage align"));
  fs::remove_all(tiny.run("sweep"));
  test::write(tiny.folder / "sweep.json", text("words.json"));
  const auto outcome = sweep(tiny);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("3 of 3 runs are finished"));

  // With another connector beside it the stage leaves the same language model: one that was trained within its run.
  ASSERT_EQ(tiny.train({"seed=1", "stages.align.trainable=[\"language_model\"]", "model.connector.kind=mlp",
                        "stages.align.data.sets.tiny.records=words.json"},
                       "alone")
                .code,
            0);
  std::string shared;
  for (const auto& entry : fs::directory_iterator(tiny.run("sweep") + "/shared")) shared = entry.path() / "seed_1";
  EXPECT_EQ(read(shared + "/align/metrics.jsonl"), read(tiny.run("alone") + "/align/metrics.jsonl"));
}

TEST(Sweep, ADryRunStartsNothing) {
  const TinyRun tiny;
  test::write(tiny.folder / "sweep.json", sweep_text(tiny, kTwoCells));
  const auto outcome = test::vlmamba({"sweep", "--config", (tiny.folder / "sweep.json").string(), "--dry-run"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("2 cells, 1 seeds, 3 runs"), HasSubstr("shares  align")));
  EXPECT_FALSE(fs::exists(tiny.run("sweep")));
}

TEST(Sweep, WrongSettingsAreToldBeforeAnythingStarts) {
  const TinyRun tiny;
  test::write(tiny.folder / "sweep.json",
              sweep_text(tiny, R"("axes": [{"key": "model.connector.vss.skan", "values": ["none"]}])"));
  const auto outcome = test::vlmamba({"sweep", "--config", (tiny.folder / "sweep.json").string()});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("cell skan_none"), HasSubstr("did you mean \"scan\"?")));
  EXPECT_FALSE(fs::exists(tiny.run("sweep")));
}

}  // namespace
}  // namespace vlmamba
