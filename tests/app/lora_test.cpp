#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/weights/weight_files.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;

// Stage instruct as LLaVA's LoRA recipe, smaller.
const std::vector<std::string> kLora{
    R"(stages.instruct.trainable={"connector": "all", "language_model": {"lora": {"r": 4, "alpha": 8}}})",
    R"(stages.instruct.optimizer={"lr": 0.02, "parts": {"connector": {"lr": 0.002}}})"};

std::string step(const std::string& run, int number) {
  return run + "/instruct/checkpoints/step_0000000" + std::to_string(number);
}

double loss_at(const std::string& run, const std::string& stage, int line) {
  std::istringstream lines(read(run + "/" + stage + "/metrics.jsonl"));
  std::string text;
  for (int i = 0; i < line; ++i) std::getline(lines, text);
  return io::parse_json(text, "metrics", ExitCode::kIo).find("loss")->as_number();
}

TEST(LoraRun, StartsFromTheSameLossAndResumesExactly) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  const auto outcome = tiny.train(kLora, "lora");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(loss_at(tiny.run("lora"), "instruct", 1), loss_at(tiny.run("whole"), "instruct", 1));
  const io::WeightFiles weights(step(tiny.run("lora"), 5) + "/model.safetensors");
  EXPECT_NE(weights.find("language_model.backbone.layers.0.mixer.in_proj.lora_A"), nullptr);

  fs::copy(tiny.run("lora"), tiny.run("cut"), fs::copy_options::recursive);
  for (const int later : {3, 4, 5}) fs::remove_all(step(tiny.run("cut"), later));
  const auto resumed = test::vlmamba({"train", "--resume", tiny.run("cut")});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(read(tiny.run("cut") + "/instruct/metrics.jsonl"), read(tiny.run("lora") + "/instruct/metrics.jsonl"));
  EXPECT_TRUE(read(step(tiny.run("cut"), 5) + "/model.safetensors") ==
              read(step(tiny.run("lora"), 5) + "/model.safetensors"));
}

TEST(LoraRun, IsMergedWhereItIsAskedExportedAndTrainedOn) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train(kLora).code, 0);
  const auto answer = [&](const std::string& checkpoint) {
    return test::vlmamba({"generate", "--checkpoint", checkpoint, "--image", tiny.data + "/images/0.png", "--prompt",
                          "is there a 3?", "--max-new-tokens", "6", "--print-ids"});
  };
  const auto unmerged = answer(tiny.run());
  ASSERT_EQ(unmerged.code, 0) << unmerged.err;
  const std::string exported = tiny.run("exported"), again = tiny.run("again");
  ASSERT_EQ(test::vlmamba({"convert", "--input", tiny.run(), "--output", exported, "--to", "hf"}).code, 0);
  const io::WeightFiles weights(exported + "/model.safetensors");
  for (const auto& tensor : weights.tensors()) EXPECT_EQ(tensor.name.find("lora"), std::string::npos) << tensor.name;
  ASSERT_EQ(test::vlmamba({"convert", "--input", exported, "--output", again, "--to", "checkpoint"}).code, 0);
  const auto merged = answer(again);
  EXPECT_EQ(merged.code, 0) << merged.err;
  EXPECT_EQ(merged.out, unmerged.out);

  // A stage behind it begins from the merged weights, in the same process and in another one.
  const std::string config = read(tiny.config);
  const auto end = config.find("\n  ],\n  \"eval\"");
  ASSERT_NE(end, std::string::npos);
  std::string third = config.substr(config.find("    {\"name\": \"instruct\""), std::string::npos);
  third = third.substr(0, third.find("\n  ],"));
  third.replace(third.find("instruct"), 8, "further");
  test::write(tiny.config, config.substr(0, end) + ",\n" + third + config.substr(end));
  const auto all = tiny.train(kLora, "three");
  ASSERT_EQ(all.code, 0) << all.err;
  fs::copy(tiny.run("three"), tiny.run("two"), fs::copy_options::recursive);
  fs::remove_all(tiny.run("two") + "/further");
  ASSERT_EQ(test::vlmamba({"train", "--resume", tiny.run("two")}).code, 0);
  EXPECT_EQ(read(tiny.run("two") + "/further/metrics.jsonl"), read(tiny.run("three") + "/further/metrics.jsonl"));
  const io::WeightFiles later(tiny.run("three") + "/further/checkpoints/step_00000005/model.safetensors");
  EXPECT_EQ(later.find("language_model.backbone.layers.0.mixer.in_proj.lora_A"), nullptr);
}

// All that a stage can say about numbers, together, resumes exactly.
TEST(MixedRun, InBfloat16WithRecomputationResumesExactlyAndWritesATrace) {
  const TinyRun tiny;
  std::vector<std::string> settings = kLora;
  for (const std::string stage : {"align", "instruct"})
    for (const char* setting : {"precision=bfloat16", "frozen_dtype=bfloat16", "recompute_every=1", "peak_tflops=0.5"})
      settings.push_back("stages." + stage + "." + setting);
  settings.push_back("stages.align.profile.first_step=2");
  settings.push_back("stages.align.profile.steps=2");
  const auto outcome = tiny.train(settings);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  fs::copy(tiny.run(), tiny.run("cut"), fs::copy_options::recursive);
  fs::remove_all(tiny.run("cut") + "/instruct");
  for (const int later : {3, 4, 5})
    fs::remove_all(tiny.run("cut") + "/align/checkpoints/step_0000000" + std::to_string(later));
  const auto resumed = test::vlmamba({"train", "--resume", tiny.run("cut")});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  for (const std::string stage : {"align", "instruct"})
    EXPECT_EQ(read(tiny.run("cut") + "/" + stage + "/metrics.jsonl"),
              read(tiny.run() + "/" + stage + "/metrics.jsonl"));

  const auto trace = io::read_json(tiny.run() + "/align/profile.json", ExitCode::kIo);
  std::map<std::string, int> seen;
  for (const auto& event : trace.find("traceEvents")->items())
    if (const auto* name = event.find("name"); name && name->is_string()) ++seen[name->as_string()];
  for (const char* phase : {"data", "forward", "backward", "optimizer"}) EXPECT_GE(seen[phase], 2) << phase;
  EXPECT_GT(seen["vlmamba::selective_scan"], 0);

  std::istringstream lines(read(tiny.run() + "/align/timing.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const auto timing = io::parse_json(line, "timing", ExitCode::kIo);
  for (const char* key : {"step_ms", "tokens_per_s", "targets_per_s", "images_per_s", "tflops", "mfu", "mem_gib"}) {
    ASSERT_NE(timing.find(key), nullptr) << key;
    EXPECT_GT(timing.find(key)->as_number(), 0) << key;
  }
  EXPECT_NEAR(timing.find("mfu")->as_number(), timing.find("tflops")->as_number() / 0.5, 1e-9);
  double sum = 0;
  for (const auto& [name, ms] : timing.find("phases")->members()) sum += ms.as_number();
  EXPECT_LE(sum, timing.find("step_ms")->as_number());
}

}  // namespace
}  // namespace vlmamba
