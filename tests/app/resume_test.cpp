#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "tests/app/tiny_run.h"
#include "tests/io/faulty_disk.h"
#include "vlmamba/io/checkpoint_manifest.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;
using testing::AllOf;
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
      EXPECT_EQ(read(run + "/instruct/checkpoints/step_00000005/state.json"),
                read(tiny.run("whole") + "/instruct/checkpoints/step_00000005/state.json"));
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

// As written, but by whom? The manifest is of these very bytes.
void forge_state(const std::string& checkpoint, const std::string& state) {
  test::write(checkpoint + "/state.json", state);
  io::CheckpointManifest manifest = io::read_manifest(checkpoint);
  manifest.files["state.json"] = {state.size(), io::sha256(state), ""};
  test::write(checkpoint + "/" + io::kManifestName, manifest.to_string());
}

TEST(Train, AStateThatMeansNothingIsDamageToo) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  const std::string run = tiny.run("cut"), path = run + "/instruct/checkpoints/step_00000003";
  cut_run(tiny.run("whole"), run, "instruct", 3);
  const std::string state = read(path + "/state.json"), step = "\"step\": 3";
  const auto with = [&](const std::string& other) {
    std::string text = state;
    return text.replace(text.find(step), step.size(), other);
  };
  for (const std::string& forged :
       {with("\"step\": \"3\""), with("\"step\": 3.5"), with("\"step\": -3"), with("\"step\": 2"), with("\"stop\": 3"),
        with("\"step\": null"), std::string("[]"), std::string("{"), std::string()}) {
    SCOPED_TRACE(forged);
    forge_state(path, forged);
    const auto shown = test::vlmamba({"inspect", run});
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_THAT(shown.err, HasSubstr("passing over a damaged checkpoint: [" + path + "/state.json"));
    EXPECT_THAT(shown.out, HasSubstr("step_00000002"));
  }
  const auto resumed = test::vlmamba({"train", "--resume", run});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, AllOf(HasSubstr("passing over a damaged checkpoint: [" + path + "/state.json"),
                                 HasSubstr("resumes at step 2")));
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

TEST(Train, AFullDiskCostsACheckpointAndNothingElse) {
  const TinyRun tiny;
  test::Outcome full;
  {
    const test::FaultyDisk disk(1, ENOSPC, true, "align/checkpoints/step_00000003");
    full = tiny.train({}, "full");
  }
  ASSERT_EQ(full.code, 0) << full.err;
  EXPECT_THAT(full.err, AllOf(HasSubstr("align/checkpoints/step_00000003] expected to write"),
                              HasSubstr("No space left on device"),
                              HasSubstr("earlier checkpoints are intact; training goes on")));
  EXPECT_FALSE(fs::exists(tiny.run("full") + "/align/checkpoints/step_00000003"));
  EXPECT_FALSE(fs::exists(tiny.run("full") + "/align/checkpoints/step_00000003.unfinished"));
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  EXPECT_TRUE(final_weights(tiny.run("full")) == final_weights(tiny.run("whole")));
  for (const std::string stage : {"align", "instruct"})
    EXPECT_EQ(read(tiny.run("full") + "/" + stage + "/metrics.jsonl"),
              read(tiny.run("whole") + "/" + stage + "/metrics.jsonl"));
}

TEST(Train, TheLastCheckpointOfAStageMustBeWritten) {
  const TinyRun tiny;
  test::Outcome full;
  {
    const test::FaultyDisk disk(1, ENOSPC, true, "align/checkpoints/step_00000005");
    full = tiny.train({}, "full");
  }
  EXPECT_EQ(full.code, 6);
  EXPECT_THAT(full.err, HasSubstr("earlier checkpoints are intact"));
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  ASSERT_EQ(test::vlmamba({"train", "--resume", tiny.run("full")}).code, 0);
  EXPECT_TRUE(final_weights(tiny.run("full")) == final_weights(tiny.run("whole")));
}

TEST(Train, FrozenPartsAreWrittenOnceAndFound) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string run = tiny.run(), step = run + "/align/checkpoints/step_00000002";
  std::map<std::string, int> parts;
  for (const auto& entry : fs::directory_iterator(run + "/parts")) {
    const std::string name = entry.path().filename().string();
    ++parts[name.substr(0, name.find('-'))];
  }
  EXPECT_EQ(parts, (std::map<std::string, int>{{"language_model", 1}, {"vision_encoder", 1}}));
  EXPECT_LT(fs::file_size(step + "/model.safetensors"),
            fs::file_size(run + "/instruct/checkpoints/step_00000002/model.safetensors"));

  for (const char* command : {"inspect", "generate"}) {
    std::vector<std::string> arguments{command, step};
    if (arguments[0] == "generate") arguments = {"generate", "--checkpoint", step, "--prompt", "hi"};
    const auto outcome = test::vlmamba(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
  }
  EXPECT_THAT(test::vlmamba({"inspect", step}).out, HasSubstr("language_model is " + run + "/parts/language_model-"));
  ASSERT_EQ(test::vlmamba({"convert", "--input", step, "--output", tiny.run("hf"), "--to", "hf"}).code, 0);
  EXPECT_EQ(tiny.train({"model.language_model.pretrained=" + step}, "other").code, 0);

  fs::rename(run, tiny.run("moved"));  // as a whole
  const std::string moved = tiny.run("moved") + "/align/checkpoints/step_00000002";
  EXPECT_EQ(test::vlmamba({"inspect", moved}).code, 0);
  for (const auto& entry : fs::directory_iterator(tiny.run("moved") + "/parts"))
    if (entry.path().filename().string().starts_with("language_model")) fs::remove(entry.path());
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"inspect", moved},
           {"generate", "--checkpoint", moved, "--prompt", "hi"},
           {"evaluate", "--checkpoint", moved},
           {"convert", "--input", moved, "--output", tiny.run("none"), "--to", "hf"}}) {
    const auto outcome = test::vlmamba(arguments);
    EXPECT_EQ(outcome.code, 4) << arguments[0];
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("parts/language_model-"), HasSubstr("expected a file, got no such file"),
                                   HasSubstr("refers to it for its language_model")));
  }
}

TEST(Train, TheBestCheckpointIsKeptBesideTheNewest) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({"stages.align.data.validation_records=4", "stages.align.checkpoint.keep_best=validation_loss",
                        "stages.align.checkpoint.keep_last=1", "stages.align.optimizer.lr=0.3",
                        "stages.align.schedule.kind=constant"})
                .code,
            0);
  std::map<int64_t, double> losses;
  std::istringstream lines(read(tiny.run() + "/align/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto json = io::parse_json(line, "metrics", ExitCode::kData);
    losses[json.find("step")->as_integer()] = json.find("validation_loss")->find("tiny")->as_number();
  }
  ASSERT_EQ(losses.size(), 5u);
  const auto best =
      std::min_element(losses.begin(), losses.end(), [](auto& a, auto& b) { return a.second < b.second; });
  std::set<std::string> wanted{"step_0000000" + std::to_string(best->first), "step_00000005"}, found;
  for (const auto& entry : fs::directory_iterator(tiny.run() + "/align/checkpoints"))
    if (entry.is_directory()) found.insert(entry.path().filename().string());
  EXPECT_EQ(found, wanted);
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
