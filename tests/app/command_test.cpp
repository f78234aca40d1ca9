#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/app/tiny_run.h"
#include "vlmamba/data/tokenizer.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

using test::read;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;

std::vector<io::Json> lines_of(const std::string& path) {
  std::vector<io::Json> lines;
  std::istringstream text(read(path));
  for (std::string line; std::getline(text, line);) lines.push_back(io::parse_json(line, path, ExitCode::kData));
  return lines;
}

double first_loss(const std::string& run, const std::string& stage = "align") {
  return lines_of(run + "/" + stage + "/metrics.jsonl").front().find("loss")->as_number();
}

TEST(Train, LeavesTheRunThatTheDocumentsDescribe) {
  const TinyRun tiny;
  const auto outcome = tiny.train({"stages.instruct.data.validation_records=3", "stages.instruct.validate_every=2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string run = tiny.run();
  EXPECT_THAT(read(run + "/log.txt"), HasSubstr("group connector"));
  const auto metrics = lines_of(run + "/instruct/metrics.jsonl");
  ASSERT_EQ(metrics.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(metrics[i].find("step")->as_integer(), static_cast<int64_t>(i) + 1);
  for (const char* key : {"epoch", "loss", "grad_norm", "lr", "tokens", "images"})
    EXPECT_NE(metrics[0].find(key), nullptr) << key;
  EXPECT_EQ(metrics[0].find("validation_loss"), nullptr);
  EXPECT_GT(metrics[1].find("validation_loss")->find("tiny")->as_number(), 0);
  EXPECT_EQ(lines_of(run + "/instruct/timing.jsonl").size(), 5u);
  EXPECT_EQ(read(run + "/instruct/checkpoints/latest"), "step_00000005\n");
  for (const char* file :
       {"model.safetensors", "optimizer.safetensors", "state.json", "config.json", "tokenizer.json", "manifest.json"})
    EXPECT_TRUE(test::fs::exists(run + "/instruct/checkpoints/step_00000005/" + file)) << file;
  EXPECT_THAT(read(run + "/config.json"), HasSubstr(tiny.data + "/records.json"));
}

TEST(Train, TheStageBeforeIsWhereAStageStarts) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "both").code, 0);
  std::vector<std::string> arguments{"train",
                                     "--config",
                                     tiny.config,
                                     "--stage",
                                     "align",
                                     "--set",
                                     "output_dir=" + tiny.run("apart"),
                                     "--set",
                                     "data_root=" + tiny.data};
  ASSERT_EQ(test::vlmamba(arguments).code, 0);
  EXPECT_FALSE(test::fs::exists(tiny.run("apart") + "/instruct"));
  ASSERT_EQ(test::vlmamba({"train", "--resume", tiny.run("apart"), "--stage", "instruct"}).code, 0);
  for (const std::string run : {"both", "apart"})
    EXPECT_EQ(lines_of(tiny.run(run) + "/instruct/metrics.jsonl").size(), 5u);
  EXPECT_EQ(read(tiny.run("both") + "/instruct/metrics.jsonl"), read(tiny.run("apart") + "/instruct/metrics.jsonl"));
}

// The loss of a step is a mean over its targets, however the step is cut into micro-batches.
TEST(Train, AccumulationChangesNothingButRounding) {
  const TinyRun tiny;
  std::vector<std::vector<io::Json>> metrics;
  for (const std::string micro : {"8", "4", "1"}) {
    ASSERT_EQ(tiny.train({"stages.align.batch.micro_batch=" + micro}, micro).code, 0);
    metrics.push_back(lines_of(tiny.run(micro) + "/align/metrics.jsonl"));
  }
  for (size_t run = 1; run < 3; ++run)
    for (size_t i = 0; i < 5; ++i)
      for (const char* key : {"loss", "grad_norm"})
        EXPECT_NEAR(metrics[run][i].find(key)->as_number(), metrics[0][i].find(key)->as_number(), 2e-5)
            << key << " of step " << i + 1;
}

class Connectors : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Connectors, TrainBySettingsAlone) {
  const TinyRun tiny;
  auto settings = GetParam();
  for (auto& setting : settings) setting = "model.connector." + setting;
  settings.insert(settings.end(), {"stages.align.steps=2", "stages.instruct.steps=1",
                                   "stages.align.schedule.warmup_ratio=0", "stages.align.schedule.kind=constant"});
  const auto outcome = tiny.train(settings);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto metrics = lines_of(tiny.run() + "/align/metrics.jsonl");
  EXPECT_GT(metrics[0].find("grad_norm")->as_number(), 0);
}

std::vector<std::vector<std::string>> all_connectors() {
  std::vector<std::vector<std::string>> all{{"kind=mlp"}};
  for (const std::string kind : {"vss_mlp", "vss_l2"})
    for (const std::string scan : {"none", "forward", "bidirectional", "cross"})
      for (const std::string merge : {"sum", "mean", "concat"})
        for (const std::string block : {"mamba", "ss2d"})
          for (const std::string weights : {"shared", "per_direction"})
            all.push_back({"kind=" + kind, "vss.scan=" + scan, "vss.merge=" + merge, "vss.block=" + block,
                           "vss.weights=" + weights});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Connectors, testing::ValuesIn(all_connectors()));

struct ScaleConfig {
  double scale = 1;
  template <typename F>
  void visit(F& f) {
    f("scale", scale, "of the features");
  }
};

class ScaleConnector : public Connector {
 public:
  ScaleConnector(const ScaleConfig& config, const ConnectorShape& shape)
      : scale_(config.scale),
        weight_(register_parameter("weight", at::randn({shape.out_dim, shape.in_dim}).mul_(0.02))) {}
  at::Tensor forward(const at::Tensor& features) override { return at::linear(features * scale_, weight_); }

 private:
  double scale_;
  at::Tensor weight_;
};

TEST(Extensions, AConnectorOfOnesOwnHasItsOwnStrictSection) {
  const TinyRun tiny;
  Extensions extensions;
  extensions.connectors["scale"] = [](const ConnectorConfig& config, const ConnectorShape& shape) {
    return std::make_shared<ScaleConnector>(io::from_json<ScaleConfig>(config.options, "model.connector.options"),
                                            shape);
  };
  EXPECT_EQ(tiny.train({"model.connector.kind=scale"}).code, 2);  // not known without the extension
  const auto wrong = tiny.train({"model.connector.kind=scale", "model.connector.options.skale=2"}, "run", extensions);
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean \"scale\"?"));
  ASSERT_EQ(tiny.train({"model.connector.kind=scale", "model.connector.options.scale=2"}, "two", extensions).code, 0);
  ASSERT_EQ(tiny.train({"model.connector.kind=scale", "model.connector.options.scale=9"}, "nine", extensions).code, 0);
  EXPECT_NE(first_loss(tiny.run("two")), first_loss(tiny.run("nine")));
  EXPECT_EQ(test::vlmamba({"evaluate", "--checkpoint", tiny.run("two")}, extensions).code, 0);
}

TEST(Evaluate, WritesAnswersAndResults) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const auto outcome = test::vlmamba({"evaluate", "--checkpoint", tiny.run()});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* word : {"tiny", "blind", "even", "odd", "all"}) EXPECT_THAT(outcome.out, HasSubstr(word));
  const std::string folder = tiny.run() + "/eval/instruct_step_5/tiny/";
  const auto answers = lines_of(folder + "answers.jsonl");
  ASSERT_EQ(answers.size(), 6u);
  for (const char* key : {"question_id", "prompt", "text", "answer_id", "model_id", "metadata"})
    EXPECT_NE(answers[0].find(key), nullptr) << key;
  const auto results = io::read_json(folder + "results.json", ExitCode::kData);
  EXPECT_EQ(results.find("num_questions")->as_integer(), 6);
  EXPECT_NE(results.find("provenance")->find("checkpoint"), nullptr);
  // The score is what the answers say, and the batch size changes no answer.
  EXPECT_EQ(
      test::vlmamba({"evaluate", "--checkpoint", tiny.run(), "--set", "eval.batch=1", "--output", tiny.run("alone")})
          .code,
      0);
  EXPECT_EQ(read(tiny.run("alone") + "/tiny/answers.jsonl"), read(folder + "answers.jsonl"));
}

TEST(Generate, AnswersAboutPicturesAndPromptsOfIds) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::vector<std::string> ask{
      "generate", "--checkpoint", tiny.run(), "--image", tiny.data + "/images/0.png", "--max-new-tokens", "5"};
  const auto with = [&](std::vector<std::string> more) {
    auto all = ask;
    all.insert(all.end(), more.begin(), more.end());
    return test::vlmamba(all);
  };
  const auto answer = with({"--prompt", "is there a 3?", "--print-ids"});
  ASSERT_EQ(answer.code, 0) << answer.err;
  // The same prompt as ids: "USER: " picture "\nis there a 3? ASSISTANT:".
  const auto tokenizer = Tokenizer::load(std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json");
  std::string ids;
  for (const int64_t id : tokenizer.encode("USER: ")) ids.append(std::to_string(id)).append(",");
  ids += "-200";
  for (const int64_t id : tokenizer.encode("\nis there a 3? ASSISTANT:")) ids.append(",").append(std::to_string(id));
  EXPECT_EQ(with({"--prompt-ids", ids, "--print-ids"}).out, answer.out);
  EXPECT_EQ(with({"--prompt-ids", "1,2"}).code, 2);
  EXPECT_EQ(with({"--prompt-ids", ids + ",9999"}).code, 2);
  EXPECT_EQ(with({"--prompt", "hi", "--temperature", "1", "--seed", "5"}).out,
            with({"--prompt", "hi", "--temperature", "1", "--seed", "5"}).out);
  EXPECT_THAT(with({"--prompt", "hi", "--show"}).out, HasSubstr("> hi"));
}

TEST(Inspect, ExplainsRunsStepsAndFiles) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const auto run = test::vlmamba({"inspect", tiny.run()});
  EXPECT_EQ(run.code, 0);
  EXPECT_THAT(run.out, AllOf(HasSubstr("step_00000005"), HasSubstr("vss_l2, scan bidirectional"),
                             HasSubstr("language_model"), HasSubstr("whole:")));
  const auto file =
      test::vlmamba({"inspect", "--tensors", tiny.run() + "/align/checkpoints/step_00000001/model.safetensors"});
  EXPECT_THAT(file.out, HasSubstr("connector.linear_in.weight"));
}

TEST(Reference, DocumentsEveryKey) {
  const std::string path = std::string(VLMAMBA_SOURCE_DIR) + "/docs/config_reference.md";
  EXPECT_EQ(test::vlmamba({"reference"}).out, read(path))
      << "make it anew: vlmamba reference > docs/config_reference.md";
}

}  // namespace
}  // namespace vlmamba
