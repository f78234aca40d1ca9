#include "src/app/continuation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/config.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

test::Outcome resume(const std::string& run, const std::vector<std::string>& settings) {
  std::vector<std::string> arguments{"train", "--resume", run};
  for (const auto& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
  return test::vlmamba(arguments);
}

// A run whose first stage is finished.
struct HalfRun : TinyRun {
  HalfRun() {
    const auto outcome = test::vlmamba({"train", "--config", config, "--stage", "align", "--set", "output_dir=" + run(),
                                        "--set", "data_root=" + data});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
  }
};

TEST(ResumeWithChanges, WhatCannotGoOnIsRefusedKeyByKey) {
  const HalfRun half;
  const std::string before = read(half.run() + "/config.json");
  const auto outcome = resume(half.run(), {"seed=9", "stages.align.batch.global_batch=16", "stages.align.steps=9",
                                           "stages.align.optimizer.lr=1", "stages.align.log_every=2"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("seed: 3 -> 9"), HasSubstr("stages.align.batch.global_batch: 8 -> 16"),
                                 HasSubstr("stages.align.steps: 5 -> 9"),
                                 HasSubstr("stages.align.optimizer.lr: 0.001 -> 1"), Not(HasSubstr("log_every"))));
  EXPECT_EQ(read(half.run() + "/config.json"), before);
  EXPECT_EQ(resume(half.run(), {"stages.align.optimizer.lrr=1"}).code, 2);
  EXPECT_THAT(resume(half.run(), {"output_dir=x"}).err, HasSubstr("expected no other folder than that of --resume"));
}

TEST(ResumeWithChanges, WhatCanGoOnIsShownAndTakesEffect) {
  const HalfRun half;
  const auto outcome = resume(half.run(), {"stages.instruct.log_every=2", "stages.instruct.optimizer.beta1=0.5",
                                           "stages.instruct.checkpoint.keep_last=1", "eval.batch=2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("config: stages.instruct.log_every: 1 -> 2"),
                                 HasSubstr("config: stages.instruct.optimizer.beta1: 0.9 -> 0.5"),
                                 HasSubstr("config: eval.batch: 4 -> 2")));
  const std::string metrics = read(half.run() + "/instruct/metrics.jsonl");
  EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 3);  // steps 2, 4 and the last
  EXPECT_FALSE(fs::exists(half.run() + "/instruct/checkpoints/step_00000004"));
  const TinyRun other;
  ASSERT_EQ(other.train({"stages.instruct.log_every=2"}, "whole").code, 0);
  EXPECT_NE(metrics, read(other.run("whole") + "/instruct/metrics.jsonl"));  // beta1 took effect
}

TEST(ResumeWithChanges, AFurtherStageIsOneMoreEntry) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string before = read(tiny.run() + "/instruct/metrics.jsonl");
  std::string text = read(tiny.config);
  const auto at = text.find("{\"name\": \"instruct\"");
  const std::string stage = text.substr(at, text.find("\n  ],", at) - at);
  std::string polish = stage;
  polish.replace(polish.find("instruct"), 8, "polish");
  text.insert(at + stage.size(), ",\n" + polish);
  const std::string longer = (tiny.folder / "longer.json").string();
  test::write(longer, text);
  const auto outcome =
      test::vlmamba({"train", "--resume", tiny.run(), "--config", longer, "--set", "data_root=" + tiny.data});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("config: stages.polish: none -> "), HasSubstr("stage polish: 5 steps of 8 records")));
  EXPECT_EQ(read(tiny.run() + "/instruct/metrics.jsonl"), before);
  EXPECT_TRUE(fs::exists(tiny.run() + "/polish/checkpoints/step_00000005"));

  std::string inserted = read(tiny.config);  // in front of a finished one: its samples would come in another order
  inserted.insert(inserted.find("{\"name\": \"instruct\""), polish + ",\n");
  test::write(longer, inserted);
  const auto moved =
      test::vlmamba({"train", "--resume", tiny.run(), "--config", longer, "--set", "data_root=" + tiny.data});
  EXPECT_EQ(moved.code, 2);
  EXPECT_THAT(moved.err, HasSubstr("stages.instruct.place: 1 -> 2"));
}

// Each value of the config changed in turn: everything is refused that is not known to be harmless.
TEST(ResumeWithChanges, EveryKeyIsClassed) {
  const test::Folder folder;
  RunConfig config = io::from_json<RunConfig>(
      io::parse_json(test::config_text("tokenizer.json"), "config", ExitCode::kUsage), "config");
  config.output_dir = folder.text();
  fs::create_directories(app::checkpoints_folder(config, 0) + "/step_00000001");
  fs::create_directories(app::checkpoints_folder(config, 1) + "/step_00000001");
  const io::Json whole = io::write_config(config);
  int refused = 0;
  std::vector<std::string> allowed;
  const std::function<void(const io::Json&, const std::string&)> visit = [&](const io::Json& json,
                                                                             const std::string& key) {
    if (json.is_object() && !json.members().empty()) {
      for (const auto& [name, value] : json.members()) visit(value, key.empty() ? name : key + "." + name);
      return;
    }
    if (json.is_array() && !json.items().empty() && json.items()[0].find("name")) {
      for (const auto& item : json.items()) visit(item, key + "." + item.find("name")->as_string());
      return;
    }
    std::string value = json.is_bool()     ? json.as_bool() ? "false" : "true"
                        : json.is_number() ? json.as_number() == 1 ? "2" : "1"
                        : json.is_string() ? "x" + json.as_string()
                                           : "";
    RunConfig changed;
    try {
      io::Json copy = whole;
      io::apply_overrides(copy, {key + "=" + value});
      changed = io::from_json<RunConfig>(copy, "config");
    } catch (const Error&) {
      return;  // no other value of an enum, array or null is at hand here
    }
    try {
      if (!app::check_changes(config, changed).empty()) allowed.push_back(key);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_THAT(error.what(), HasSubstr("\n    " + key.substr(0, key.rfind('.'))));
      ++refused;
    }
  };
  visit(whole, "");
  EXPECT_GT(refused, 50);
  for (const auto& key : allowed)
    EXPECT_THAT(
        key, testing::MatchesRegex(
                 "output_dir|data_root|weights_root|tokenizer|device|distributed\\..*|eval\\..*|model\\..*pretrained|"
                 "stages\\..*(records|image_root|loader_threads|micro_batch|validate_every|"
                 "log_every|checkpoint\\..*|loss_spike\\..*|recompute_every|peak_tflops|profile\\..*)"));
  std::printf("keys that a resumed run refuses: %d, allows: %zu\n", refused, allowed.size());
}

TEST(Predecessor, AnotherModelIsRefusedWithTheDifference) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const auto from = [&](const std::vector<std::string>& settings, const std::string& parts) {
    std::vector<std::string> all{"stages.align.init_from.checkpoint=" + tiny.run(),
                                 "stages.align.init_from.parts=" + parts};
    all.insert(all.end(), settings.begin(), settings.end());
    static int count = 0;
    return tiny.train(all, "other" + std::to_string(count++));
  };
  const auto same = from({}, "[\"connector\"]");
  ASSERT_EQ(same.code, 0) << same.err;
  EXPECT_THAT(same.err, HasSubstr("tensors loaded, 0 missing, 0 fresh"));
  const auto connector = from({"model.connector.vss.d_state=8", "prompt.system=hello"}, "[\"connector\"]");
  EXPECT_EQ(connector.code, 2);
  EXPECT_THAT(connector.err,
              AllOf(HasSubstr("model.connector.vss.d_state: 4 -> 8"), HasSubstr("prompt.system: \"\" -> \"hello\"")));
  EXPECT_EQ(from({"model.connector.vss.d_state=8", "prompt.system=hello"}, "[\"vision_encoder\"]").code, 0);
  EXPECT_THAT(from({}, "[\"projector\"]").err, HasSubstr("init_from.parts: expected vision_encoder, connector"));
}

TEST(Predecessor, WeightsOfOtherNamesAreTakenAndWhatIsMissingIsNamed) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({"model.connector.kind=mlp"}).code, 0);
  const std::string file = tiny.run() + "/align/checkpoints/step_00000005/model.safetensors";
  const auto taken = tiny.train({"stages.align.init_from.checkpoint=" + file,
                                 "stages.align.init_from.parts=[\"connector\"]", "model.connector.kind=mlp"},
                                "same");
  EXPECT_EQ(taken.code, 0) << taken.err;
  const auto missing = tiny.train(
      {"stages.align.init_from.checkpoint=" + file, "stages.align.init_from.parts=[\"connector\"]"}, "missing");
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("missing      connector."));
}

TEST(Predecessor, ARunWhoseConfigWasEditedByHandIsRefused) {
  const HalfRun half;
  const std::string path = half.run() + "/config.json";
  std::string text = read(path);
  text.replace(text.find("\"d_state\": 4"), 12, "\"d_state\": 5");
  test::write(path, text);
  const auto outcome = resume(half.run(), {});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("d_state: 4 -> 5"));
}

TEST(Preflight, EverythingThatIsMissingIsToldAtOnce) {
  const TinyRun tiny;
  const auto outcome = tiny.train({"stages.instruct.data.sets.tiny.records=none.json", "tokenizer=/none/tokenizer.json",
                                   "stages.instruct.data.sets.tiny.image_root=nowhere"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("/none/tokenizer.json] expected a file"),
                                 HasSubstr("none.json] expected a file (stages.instruct.data.sets.tiny.records)"),
                                 HasSubstr("nowhere] expected a folder (stages.instruct.data.sets.tiny.image_root)"),
                                 HasSubstr("3 errors, nothing was started")));
  EXPECT_FALSE(fs::exists(tiny.run()));
}

TEST(Preflight, TrainingNeedsNoQuestionsButSaysThatTheyAreMissing) {
  const TinyRun tiny;
  fs::remove(tiny.data + "/questions.jsonl");
  const auto outcome = tiny.train();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("questions.jsonl] expected a file (eval.tasks.tiny.questions)"));
}

TEST(Preflight, WhatALaterStageStartsFromIsLookedAtBeforeTheFirst) {
  const TinyRun tiny;
  ASSERT_EQ(
      tiny.train({"model.connector.vss.d_state=8", "stages.align.steps=1", "stages.instruct.steps=1"}, "other").code,
      0);
  const auto from = [&](const std::string& place) {
    return tiny.train(
        {"stages.instruct.init_from.checkpoint=" + place, "stages.instruct.init_from.parts=[\"connector\"]"});
  };
  const auto another = from(tiny.run("other"));
  EXPECT_EQ(another.code, 2);
  EXPECT_THAT(another.err, HasSubstr("model.connector.vss.d_state: 8 -> 4"));
  const auto missing = from(tiny.run("none"));
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("(stages.instruct.init_from.checkpoint), got no such file"));
  test::write(tiny.run("other") + "/instruct/checkpoints/step_00000001/tokenizer.json", "{}");
  const auto damaged = from(tiny.run("other") + "/instruct/checkpoints/step_00000001");
  EXPECT_EQ(damaged.code, 4);
  EXPECT_THAT(damaged.err, HasSubstr("step_00000001/tokenizer.json] expected"));
  EXPECT_FALSE(fs::exists(tiny.run()));
  const auto own = from(tiny.run() + "/align/checkpoints/step_00000002");  // which is yet to be written
  EXPECT_EQ(own.code, 0) << own.err;
}

TEST(Preflight, ADamagedConfigOfARunIsNoUsageError) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string path = tiny.run() + "/config.json", text = read(path);
  test::write(path, text.substr(0, text.size() / 2));
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"train", "--resume", tiny.run()}, {"inspect", tiny.run()}, {"evaluate", "--checkpoint", tiny.run()}}) {
    const auto outcome = test::vlmamba(arguments);
    EXPECT_EQ(outcome.code, 4) << arguments[0];
    EXPECT_THAT(outcome.err, HasSubstr("config.json"));
  }
}

}  // namespace
}  // namespace vlmamba
