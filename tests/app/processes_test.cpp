#include "tests/dist/processes.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"

// The program as several processes, which is started, stopped and killed as a cluster would.
namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::Processes;
using test::read;
using test::TinyRun;
using testing::HasSubstr;

class TrainProcesses : public testing::Test {
 protected:
  std::vector<std::string> command(const std::string& name, std::vector<std::string> settings) const {
    std::vector<std::string> all{VLMAMBA_PROGRAM, "train", "--config", tiny_.config};
    settings.push_back("output_dir=" + tiny_.run(name));
    settings.push_back("data_root=" + tiny_.data);
    for (const auto& setting : settings) all.insert(all.end(), {"--set", setting});
    return all;
  }
  std::vector<std::string> resume(const std::string& name) const {
    return {VLMAMBA_PROGRAM, "train", "--resume", tiny_.run(name)};
  }
  std::string metrics(const std::string& name, const std::string& stage = "instruct") const {
    return read(tiny_.run(name) + "/" + stage + "/metrics.jsonl");
  }
  std::string weights(const std::string& name) const {
    return read(tiny_.run(name) + "/instruct/checkpoints/step_00000005/model.safetensors");
  }
  void finish(Processes& ranks, int count = 2) const {
    for (int rank = 0; rank < count; ++rank) {
      const auto end = ranks.end(rank);
      ASSERT_EQ(end.code, 0) << end.err;
    }
  }
  // Waits until some steps are in the log.
  bool trains(const std::string& name, size_t bytes = 800) const {
    const std::string path = tiny_.run(name) + "/align/metrics.jsonl";
    for (int i = 0; i < 1200; ++i) {
      if (fs::exists(path) && fs::file_size(path) > bytes) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }

  const TinyRun tiny_;
  // Long enough to be interrupted anywhere, with a checkpoint every few steps.
  const std::vector<std::string> longer_{"stages.align.steps=2000", "stages.align.checkpoint.every=7",
                                         "stages.align.checkpoint.keep_last=2", "distributed.silent_seconds=2"};
};

class SlowTrainProcesses : public TrainProcesses {};

std::vector<double> losses(const std::string& lines) {
  std::vector<double> values;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);)
    values.push_back(io::parse_json(line, "metrics", ExitCode::kInternal).find("loss")->as_number());
  return values;
}

TEST_F(TrainProcesses, TwoTrainAsOne) {
  ASSERT_EQ(tiny_.train({"stages.instruct.validate_every=2", "stages.instruct.data.validation_records=3"}, "one").code,
            0);
  Processes ranks(2, command("two", {"stages.instruct.optimizer.sharded=true", "stages.instruct.validate_every=2",
                                     "stages.instruct.data.validation_records=3", "distributed.compare_every=1"}));
  finish(ranks);
  for (const std::string stage : {"align", "instruct"}) {
    const auto one = losses(metrics("one", stage)), two = losses(metrics("two", stage));
    ASSERT_EQ(one.size(), two.size());
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(two[i], one[i], 1e-4 * one[i]) << stage << " " << i;
  }
  EXPECT_THAT(read(tiny_.run("two") + "/log.txt"), HasSubstr("rank 0 of 2"));
  EXPECT_THAT(read(tiny_.run("two") + "/log.rank_1.txt"), HasSubstr("rank 1 of 2"));
}

TEST_F(SlowTrainProcesses, AKilledRankEndsAllInTimeAndTheRunGoesOnExactly) {
  for (const int killed : {1, 0}) {
    SCOPED_TRACE(killed);
    const std::string name = "killed" + std::to_string(killed);
    auto settings = longer_;
    settings[0] = "stages.align.steps=120";
    if (killed == 1) {
      Processes whole(2, command("whole", settings));
      finish(whole);
    }
    {
      Processes ranks(2, command(name, settings));
      ASSERT_TRUE(trains(name));
      ranks.signal(killed, SIGKILL);
      const auto other = ranks.end(1 - killed, 10);
      EXPECT_EQ(other.code, 7);
      EXPECT_THAT(other.err, HasSubstr("[rank " + std::to_string(killed) + "] this rank is lost"));
    }
    Processes again(2, resume(name));
    finish(again);
    EXPECT_EQ(metrics(name, "align"), metrics("whole", "align"));
    EXPECT_EQ(metrics(name), metrics("whole"));
    EXPECT_TRUE(weights(name) == weights("whole"));
  }
}

TEST_F(SlowTrainProcesses, AStoppedRankIsNamedInTime) {
  Processes ranks(2, command("stopped", longer_));
  ASSERT_TRUE(trains("stopped"));
  ranks.signal(1, SIGSTOP);
  const auto other = ranks.end(0, 10);
  EXPECT_EQ(other.code, 7);
  EXPECT_THAT(other.err, HasSubstr("[rank 1] this rank is lost: its process has given no sign of life for 2 s"));
}

TEST_F(SlowTrainProcesses, ASignalToOneSavesAndEndsAllWith75) {
  Processes ranks(2, command("signal", longer_));
  ASSERT_TRUE(trains("signal"));
  ranks.signal(1, SIGTERM);
  const auto first = ranks.end(0, 30), second = ranks.end(1, 30);
  EXPECT_EQ(first.code, 75) << first.err;
  EXPECT_EQ(second.code, 75) << second.err;
  EXPECT_THAT(read(tiny_.run("signal") + "/log.txt"), HasSubstr("stopped in good order"));
}

TEST_F(TrainProcesses, ACorruptPictureOnOneRankEndsAllWithItsName) {
  test::write(tiny_.data + "/images/0.png", "this is no picture");
  Processes ranks(2, command("corrupt", {}));
  const auto first = ranks.end(0, 60), second = ranks.end(1, 60);
  EXPECT_TRUE((first.code == 3 && second.code == 7) || (first.code == 7 && second.code == 3))
      << first.code << ", " << second.code;
  for (const auto& end : {first, second}) EXPECT_THAT(end.err, HasSubstr("0.png"));
}

TEST_F(SlowTrainProcesses, ConfigsThatDifferAreRefused) {
  Processes ranks(2, command("configs", {}), [](int rank) {
    return std::vector<std::string>{"--set", "seed=" + std::to_string(rank)};
  });
  for (int rank = 0; rank < 2; ++rank) {
    const auto end = ranks.end(rank, 60);
    EXPECT_EQ(end.code, 7);
    EXPECT_THAT(end.err, HasSubstr("[start] config: expected the same on all ranks, got something else on rank 1"));
  }
  EXPECT_FALSE(fs::exists(tiny_.run("configs")));
}

TEST_F(TrainProcesses, VariablesThatContradictEachOtherAreRefused) {
  ::setenv("RANK", "0", 1);
  const auto outcome = tiny_.train();
  ::unsetenv("RANK");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("[WORLD_SIZE] expected this variable from torchrun, got none"));
}

}  // namespace
}  // namespace vlmamba
