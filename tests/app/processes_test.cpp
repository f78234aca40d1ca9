#include "tests/dist/processes.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cstdio>
#include <limits>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"
#include "vlmamba/model/weights.h"

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
  // The run goes on and ends as "whole" did, which nothing happened to.
  void expect_goes_on_exactly(const std::string& name) const {
    Processes again(2, resume(name));
    finish(again);
    EXPECT_EQ(metrics(name, "align"), metrics("whole", "align"));
    EXPECT_EQ(metrics(name), metrics("whole"));
    EXPECT_TRUE(weights(name) == weights("whole"));
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
      std::printf("rank %d killed: rank %d ended after %.1f s\n", killed, 1 - killed, other.seconds);
    }
    expect_goes_on_exactly(name);
  }
}

TEST_F(SlowTrainProcesses, AStoppedRankIsNamedInTimeAndTheRunGoesOnExactly) {
  auto settings = longer_;
  settings[0] = "stages.align.steps=120";
  Processes whole(2, command("whole", settings));
  finish(whole);
  {
    Processes ranks(2, command("stopped", settings));
    ASSERT_TRUE(trains("stopped"));
    ranks.signal(1, SIGSTOP);
    const auto other = ranks.end(0, 10);
    EXPECT_EQ(other.code, 7);
    EXPECT_THAT(other.err, HasSubstr("[rank 1] this rank is lost: its process has given no sign of life for 2 s"));
    std::printf("rank 1 stopped: rank 0 ended after %.1f s\n", other.seconds);
  }
  expect_goes_on_exactly("stopped");
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

TEST_F(TrainProcesses, ACorruptPictureOnOneRankIsSkippedByAllAlike) {
  test::write(tiny_.data + "/images/0.png", "this is no picture");
  std::vector<std::string> skipping;
  for (const std::string stage : {"align", "instruct"})
    skipping.push_back("stages." + stage + ".data.on_bad_sample=skip");
  ASSERT_EQ(tiny_.train(skipping, "one").code, 0);
  Processes ranks(2, command("two", skipping));
  finish(ranks);
  const auto one = losses(metrics("one")), two = losses(metrics("two"));
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(two[i], one[i], 1e-4 * one[i]) << i;
  const auto counts = [&](const std::string& name) {
    const std::string text = metrics(name), last = text.substr(text.rfind("\"samples\""));
    return last.substr(0, last.find('}'));
  };
  EXPECT_EQ(counts("two"), counts("one"));
  EXPECT_THAT(counts("two"), testing::ContainsRegex("\"skipped\": [1-9]"));
}

// One record has a picture, and the connector that it goes through gives NaN: one rank alone meets it.
TEST_F(TrainProcesses, ANanOnOneRankEndsAllAlikeAndIsReplayed) {
  ASSERT_EQ(tiny_.train({"stages.align.steps=1", "stages.instruct.steps=1"}, "clean").code, 0);
  NamedTensors connector;
  const io::WeightFiles clean(tiny_.run("clean") + "/align/checkpoints/step_00000001/model.safetensors");
  for (const auto& tensor : clean.tensors()) connector.emplace_back(tensor.name, read_tensor(tensor));
  connector.back().second.fill_(std::numeric_limits<float>::quiet_NaN());
  const std::string weights = tiny_.run("nan.safetensors");
  test::write(weights, tensors_to_safetensors(connector));
  std::string records = "[";
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i), image = i == 7 ? R"("image": "images/7.png", )" : "";
    records += std::string(i ? "," : "") + R"({"id": "r)" + n + R"(", )" + image +
               R"("conversations": [{"from": "human", "value": ")" + (i == 7 ? "<image>\\n" : "") +
               R"(what?"}, {"from": "gpt", "value": "7"}]})";
  }
  test::write(tiny_.data + "/records.json", records + "]");
  Processes ranks(
      2, command("nan", {"stages.align.init_from.checkpoint=" + weights, "stages.align.init_from.parts=[\"connector\"]",
                         "stages.align.batch.global_batch=4", "stages.align.batch.micro_batch=1",
                         "stages.align.trainable=[\"language_model\"]"}));
  std::vector<std::string> errors;
  for (int rank = 0; rank < 2; ++rank) {
    const auto end = ranks.end(rank, 60);
    EXPECT_EQ(end.code, 5) << end.err;
    errors.push_back(end.err);
  }
  const size_t rank = errors[0].find("the output of connector") != std::string::npos ? 0 : 1;
  const std::string before = errors[rank].substr(errors[rank].find("stage align, step ") + 18);
  const int step = std::stoi(before);
  EXPECT_THAT(errors[rank], HasSubstr("first not finite: the output of connector"));
  EXPECT_THAT(errors[rank], HasSubstr(" r7"));
  EXPECT_THAT(errors[1 - rank], testing::Not(HasSubstr("the output of")));
  EXPECT_THAT(errors[1 - rank], HasSubstr("stage align, step " + std::to_string(step)));
  const std::string dump = tiny_.run("nan") + "/align/nonfinite_step_" + std::to_string(step);
  const auto replayed = test::vlmamba({"replay", rank == 0 ? dump : dump + "_rank_1", "--dtype", "float32"});
  EXPECT_EQ(replayed.code, 0) << replayed.err;
  EXPECT_THAT(replayed.out, HasSubstr("\nreproduced"));
  EXPECT_FALSE(fs::exists(tiny_.run("nan") + "/align/checkpoints/step_0000000" + std::to_string(step)));
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
