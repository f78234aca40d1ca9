#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/app/tiny_run.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;
using testing::HasSubstr;

std::string final_weights(const std::string& run) {
  return read(run + "/instruct/checkpoints/step_00000005/model.safetensors");
}
std::string final_moments(const std::string& run) {
  return read(run + "/instruct/checkpoints/step_00000005/optimizer.safetensors");
}

// Leaves a copy of a run as it was when it was killed after this step: later checkpoints are missing, the logs are
// torn.
void cut_run(const std::string& from, const std::string& to, const std::string& stage, int step) {
  fs::copy(from, to, fs::copy_options::recursive);
  if (stage == "align") fs::remove_all(to + "/instruct");
  for (const auto& entry : fs::directory_iterator(to + "/" + stage + "/checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step_") && std::stoi(name.substr(5)) > step) fs::remove_all(entry.path());
  }
  std::ofstream(to + "/" + stage + "/metrics.jsonl", std::ios::app) << "{\"step\": 9";
}

class Resume : public testing::TestWithParam<int> {};

// 12 records, 8 a step: five steps pass through four epochs; two micro-batches a step.
TEST_P(Resume, AfterAnyStepRepeatsTheWholeRunBitForBit) {
  const TinyRun tiny;
  const std::string threads = std::to_string(GetParam());
  const std::vector<std::string> settings{"stages.align.batch.loader_threads=" + threads,
                                          "stages.instruct.batch.loader_threads=" + threads};
  const auto whole = tiny.train(settings, "whole");
  ASSERT_EQ(whole.code, 0) << whole.err;
  for (const std::string stage : {"align", "instruct"})
    for (int step = 1; step <= 5; ++step) {
      SCOPED_TRACE(stage + " stopped after step " + std::to_string(step));
      const std::string run = tiny.run(stage + std::to_string(step));
      cut_run(tiny.run("whole"), run, stage, step);
      const auto resumed = test::vlmamba({"train", "--resume", run});
      ASSERT_EQ(resumed.code, 0) << resumed.err;
      for (const std::string each : {"align", "instruct"})
        EXPECT_EQ(read(run + "/" + each + "/metrics.jsonl"), read(tiny.run("whole") + "/" + each + "/metrics.jsonl"));
      EXPECT_TRUE(final_weights(run) == final_weights(tiny.run("whole")));
      EXPECT_TRUE(final_moments(run) == final_moments(tiny.run("whole")));
    }
}

INSTANTIATE_TEST_SUITE_P(LoaderThreads, Resume, testing::Values(0, 2));

TEST(Train, ThreadsOfTheLoaderChangeNothing) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "none").code, 0);
  ASSERT_EQ(tiny.train({"stages.align.batch.loader_threads=3", "stages.instruct.batch.loader_threads=3"}, "three").code,
            0);
  EXPECT_TRUE(final_weights(tiny.run("none")) == final_weights(tiny.run("three")));
}

TEST(Train, SeedsDiffer) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "three").code, 0);
  ASSERT_EQ(tiny.train({"seed=4"}, "four").code, 0);
  EXPECT_FALSE(final_weights(tiny.run("three")) == final_weights(tiny.run("four")));
}

TEST(Train, NeverOverwritesARun) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string before = read(tiny.run() + "/config.json");
  const auto again = tiny.train({"seed=9"});
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("--resume"));
  EXPECT_EQ(read(tiny.run() + "/config.json"), before);
}

TEST(Train, ResumePassesOverADamagedCheckpointAndNamesIt) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  const std::string run = tiny.run("cut");
  cut_run(tiny.run("whole"), run, "instruct", 3);
  const std::string damaged = run + "/instruct/checkpoints/step_00000003/model.safetensors";
  std::string bytes = read(damaged);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  test::write(damaged, bytes);
  const auto resumed = test::vlmamba({"train", "--resume", run});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("passing over a damaged checkpoint: [" + damaged));
  EXPECT_THAT(resumed.err, HasSubstr("resumes at step 2"));
  EXPECT_TRUE(final_weights(run) == final_weights(tiny.run("whole")));
}

TEST(Train, AStageWithNothingButDamageIsNeverTrainedAnew) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string stage = tiny.run() + "/instruct", metrics = read(stage + "/metrics.jsonl");
  for (const auto& entry : fs::directory_iterator(stage + "/checkpoints"))
    if (entry.is_directory()) test::write((entry.path() / "model.safetensors").string(), "");
  const auto outcome = test::vlmamba({"train", "--resume", tiny.run()});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("instruct] expected a whole checkpoint, got only damaged ones"));
  EXPECT_EQ(read(stage + "/metrics.jsonl"), metrics);
}

TEST(Train, AFullDiskLeavesTheLastCheckpointIntact) {
  struct FullDisk : io::FileSystem {
    int write_synced(const std::string& path, std::string_view bytes) override {
      return path.find("step_00000003") != std::string::npos ? ENOSPC : io::FileSystem::write_synced(path, bytes);
    }
  };
  const TinyRun tiny;
  FullDisk full;
  io::FileSystem* before = io::FileSystem::replace(&full);
  const auto failed = tiny.train({}, "full");
  io::FileSystem::replace(before);
  EXPECT_EQ(failed.code, 6);
  EXPECT_THAT(failed.err, HasSubstr("No space left on device; earlier checkpoints are intact"));
  EXPECT_FALSE(fs::exists(tiny.run("full") + "/align/checkpoints/step_00000003"));
  EXPECT_FALSE(fs::exists(tiny.run("full") + "/align/checkpoints/step_00000003.unfinished"));
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  ASSERT_EQ(test::vlmamba({"train", "--resume", tiny.run("full")}).code, 0);
  EXPECT_TRUE(final_weights(tiny.run("full")) == final_weights(tiny.run("whole")));
}

TEST(Train, ASecondProgramIsKeptOutOfARun) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  // The lock belongs to an open file, so that a child's open file stands for another program.
  const std::string hold = "exec 9>'" + tiny.run() + "/.lock'; flock -n 9 && sleep 2";
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", hold.c_str(), nullptr);
    ::_exit(127);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  const auto second = test::vlmamba({"train", "--resume", tiny.run()});
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.err, HasSubstr("locked"));
}

TEST(Train, ASignalSavesAndExitsWith75AndTheRunGoesOn) {
  const TinyRun tiny;
  const std::vector<std::string> longer{"stages.align.steps=400", "stages.align.checkpoint.every=0",
                                        "stages.instruct.steps=5"};
  const std::string run = tiny.run("stopped");
  std::vector<std::string> arguments{
      VLMAMBA_PROGRAM,         "train", "--config", tiny.config, "--set", "output_dir=" + run, "--set",
      "data_root=" + tiny.data};
  for (const auto& setting : longer) arguments.insert(arguments.end(), {"--set", setting});
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  for (int i = 0;
       i < 600 && (!fs::exists(run + "/align/metrics.jsonl") || fs::file_size(run + "/align/metrics.jsonl") < 500); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 75);
  ASSERT_EQ(test::vlmamba({"train", "--resume", run}).code, 0);
  ASSERT_EQ(tiny.train(longer, "whole").code, 0);
  EXPECT_EQ(read(run + "/align/metrics.jsonl"), read(tiny.run("whole") + "/align/metrics.jsonl"));
  EXPECT_TRUE(final_weights(run) == final_weights(tiny.run("whole")));
}

}  // namespace
}  // namespace vlmamba
