#include <gtest/gtest.h>

#include "tests/eval/fixtures.h"
#include "vlmamba/eval/metrics/choice.h"
#include "vlmamba/eval/metrics/vqa_accuracy.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

// Published answers of LLaVA-1.5, and synthetic ones, whose scores by the official scripts are known.
namespace vlmamba {
namespace {

using test::expect_metrics;
using test::expected_of;
using test::score_shared;

TEST(SharedScores, Vqav2) {
  SKIP_WITHOUT_SHARED("vqav2");
  const auto expected = expected_of("vqav2");
  const auto raw = score_shared("vqav2", "results_raw.json");
  expect_metrics(raw, *expected.find("results_raw.json"));
  EXPECT_NEAR(raw.score.value(), 69.51, 1e-6);
  EXPECT_EQ(raw.counts.find("unanimous_after_strip")->as_integer(), 566);
  const auto upload = score_shared("vqav2", "results_upload.json");
  expect_metrics(upload, *expected.find("results_upload.json"));
  EXPECT_NEAR(upload.score.value(), 65.49, 1e-6);
}

TEST(SharedScores, Vqav2LinesCarryBothForms) {
  SKIP_WITHOUT_SHARED("vqav2");
  const auto expected = expected_of("vqav2");
  const auto lines = score_shared("vqav2", "answers.jsonl");
  expect_metrics(lines, *expected.find("results_raw.json"));
  expect_metrics(lines, *expected.find("results_upload.json"), "submission");
}

TEST(SharedScores, Vqav2QuestionByQuestion) {
  SKIP_WITHOUT_SHARED("vqav2");
  std::map<std::string, std::string> answers;
  for (const auto& answer : read_answers(test::shared("vqav2/results_raw.json")).answers)
    answers[answer.id] = answer.text;
  const auto expected = io::read_json(test::shared("vqav2/expected_per_question.json"), ExitCode::kData);
  const auto annotations = io::read_json(test::shared("vqav2/annotations.json"), ExitCode::kData);
  for (const auto& annotation : annotations.find("annotations")->items()) {
    std::vector<HumanAnswer> people;
    for (const auto& person : annotation.find("answers")->items())
      people.push_back({person.find("answer")->as_string(), person.find("answer_id")->to_string()});
    const std::string id = annotation.find("question_id")->to_string();
    EXPECT_NEAR(vqa_accuracy(answers.at(id), people), expected.find(id)->as_number(), 1e-12) << id;
  }
}

TEST(SharedScores, Gqa) {
  SKIP_WITHOUT_SHARED("gqa");
  for (const char* answers : {"answers.jsonl", "testdev_balanced_predictions.json"}) {
    const auto result = score_shared("gqa", answers);
    expect_metrics(result, expected_of("gqa"));
    EXPECT_NEAR(result.score.value(), 64.6964856230032, 1e-6) << answers;
  }
}

TEST(SharedScores, ScienceQa) {
  SKIP_WITHOUT_SHARED("scienceqa");
  const auto expected = expected_of("scienceqa");
  for (const char* answers : {"answers/llava-v1.5-13b.jsonl", "outputs_llava-v1.5-13b.json"}) {
    const auto result = score_shared("scienceqa", answers);
    expect_metrics(result, *expected.find("llava-v1.5-13b"));
    EXPECT_NEAR(result.score.value(), 71.64105106593951, 1e-6) << answers;
    const auto& failed = *result.details.find("failed_outputs");
    EXPECT_EQ(failed.members().size(), 5u);
    for (const auto& [id, text] : expected.find("failed_outputs")->members())
      EXPECT_EQ(failed.find(id)->as_string(), text.as_string());
  }
}

TEST(SharedScores, TextVqa) {
  SKIP_WITHOUT_SHARED("textvqa");
  const auto result = score_shared("textvqa", "answers.jsonl");
  EXPECT_NEAR(result.score.value(), 73.06999999999994, 1e-6);
  EXPECT_EQ(result.metrics.find("samples")->as_integer(), 2000);
}

TEST(SharedScores, Pope) {
  SKIP_WITHOUT_SHARED("pope");
  const auto result = score_shared("pope", "answers/llava-v1.5-13b.jsonl");
  expect_metrics(result, *expected_of("pope").find("llava-v1.5-13b"));
  EXPECT_NEAR(result.score.value(), 85.94688090539113, 1e-6);
  EXPECT_TRUE(result.warnings.empty());
}

TEST(SharedScores, Mme) {
  SKIP_WITHOUT_SHARED("mme");
  for (const char* answers : {"answers/llava-v1.5-13b.jsonl", "converted_llava-v1.5-13b"}) {
    const auto result = score_shared("mme", answers);
    expect_metrics(result, *expected_of("mme").find("llava-v1.5-13b"));
    EXPECT_NEAR(result.score.value(), 185 + 155 + 125, 1e-6) << answers;
  }
}

TEST(SharedScores, MmBench) {
  SKIP_WITHOUT_SHARED("mmbench");
  const auto expected = expected_of("mmbench");
  for (const std::string name : {"llava-v1.5-13b", "synthetic"}) {
    const auto result = score_shared("mmbench", "answers/" + name + ".jsonl");
    expect_metrics(result, *expected.find(name));
    EXPECT_NEAR(result.score.value(), expected.find(name)->find("circular_eval")->as_number(), 1e-6);
    EXPECT_EQ(result.judge, "rules");
  }
}

TEST(SharedScores, MmBenchLetterByLetter) {
  SKIP_WITHOUT_SHARED("mmbench");
  const auto letters = io::read_json(test::shared("mmbench/synthetic_letters.json"), ExitCode::kData);
  const std::string path = test::shared("mmbench/answers/synthetic.jsonl");
  io::for_each_line(io::read_file(path, ExitCode::kData), path, ExitCode::kData, [&](const io::Json& line, int64_t) {
    std::vector<std::string> options;
    for (const auto& option : line.find("options")->items()) options.push_back(option.as_string());
    const auto letter = mmbench_choice(line.find("text")->as_string(), options);
    const io::Json& expected = *letters.find(line.find("question_id")->to_string());
    EXPECT_EQ(letter ? std::string(1, *letter) : "", expected.is_string() ? expected.as_string() : "")
        << line.find("text")->as_string();
  });
}

TEST(SharedScores, MmVet) {
  SKIP_WITHOUT_SHARED("mmvet");
  for (const std::string runs : {"1", "3"}) {
    const auto result = score_shared("mmvet", "results/llava-v1.5-7b_gpt-4-grade-" + runs + "runs.json");
    const auto expected = expected_of("mmvet");
    expect_metrics(result, *expected.find("llava-v1.5-7b " + runs + " run(s)"));
    EXPECT_EQ(result.judge, "gpt-4");
    EXPECT_NEAR(result.score.value(), runs == "1" ? 31.2 : 31.1, 1e-6);
  }
}

TEST(SharedScores, MmVetAnswersAloneAskTheJudge) {
  SKIP_WITHOUT_SHARED("mmvet");
  for (const char* answers : {"answers/llava-v1.5-7b.jsonl", "results/llava-v1.5-7b.json"}) {
    const auto result = score_shared("mmvet", answers);
    EXPECT_FALSE(result.score);
    EXPECT_EQ(result.judge_requests.size(), 218u);
    EXPECT_EQ(result.judge_requests[0].id, "v1_0");
    EXPECT_NE(result.judge_requests[0].prompt.find("What is x in the equation? | -1 <AND> -5 | In the equation, x is"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace vlmamba
