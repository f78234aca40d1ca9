#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/eval/miniatures.h"

// A miniature of every benchmark, scored by hand.
namespace vlmamba {
namespace {

using test::Folder;
using test::line;
using test::make_mmbench;
using test::make_mmvet;
using test::make_pope;
using test::make_scienceqa;
using test::make_vqav2;
using test::metric;
using test::refusal;
using test::score;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Miniature, Vqav2) {
  const Folder folder;
  make_vqav2(folder);
  test::write(folder / "answers.jsonl", line("1", "a cat.", "what is it?") + "\r\n" + line("\"2\"", "a cat."));
  const auto result = score("vqav2", folder, "answers.jsonl");
  EXPECT_NEAR(*result.score, 50, 1e-9);  // people agree on the second, so that it is compared as it is
  EXPECT_EQ(metric(result, "perAnswerType/other"), 100);
  EXPECT_EQ(metric(result, "perAnswerType/number"), 0);
  EXPECT_EQ(metric(result, "submission/overall"), 50);
  test::write(folder / "list.json", R"([{"question_id": 2, "answer": "Cat"}, {"question_id": 1, "answer": "dog"}])");
  EXPECT_NEAR(*score("vqav2", folder, "list.json").score, 65, 1e-9);  // one dog: 9 times 1/3, once 0
  test::write(folder / "map.json", R"({"1": "cat", "2": "Cat"})");
  EXPECT_NEAR(*score("vqav2", folder, "map.json").score, 100, 1e-9);
}

TEST(Miniature, Gqa) {
  const Folder folder;
  test::write(folder / "testdev_balanced_questions.json", R"({
    "01": {"question": "what?", "answer": "cat", "isBalanced": true, "types": {"structural": "query", "semantic": "obj"}},
    "02": {"question": "is it?", "answer": "yes", "isBalanced": true, "types": {"structural": "verify", "semantic": "rel"}},
    "03": {"question": "none", "isBalanced": false, "types": {}}})");
  test::write(folder / "answers.jsonl", line("\"01\"", "Cat..") + line("\"02\"", "yes "));
  const auto result = score("gqa", folder, "answers.jsonl");
  EXPECT_EQ(*result.score, 50);  // nothing but periods is stripped
  EXPECT_EQ(metric(result, "open"), 100);
  EXPECT_EQ(metric(result, "per_structural/verify"), 0);
  test::write(folder / "list.json",
              R"([{"questionId": "01", "prediction": "Cat"}, {"questionId": "02", "prediction": "yes"}])");
  EXPECT_EQ(*score("gqa", folder, "list.json").score, 50);  // predictions are compared as they are
}

TEST(Miniature, ScienceQa) {
  const Folder folder;
  make_scienceqa(folder);
  test::write(folder / "answers.jsonl", line("\"4\"", "B", "q") + line("7", "The answer is A.", "<image>\\nq") +
                                            line("\"9\"", "D", "<image>\\nq"));
  const auto result = score("scienceqa", folder, "answers.jsonl");
  EXPECT_EQ(*result.score, 50);
  EXPECT_NEAR(metric(result, "accuracy"), 200 / 3.0, 1e-9);
  EXPECT_EQ(metric(result, "failed"), 0);
  test::write(folder / "map.json", R"({"4": "B", "7": "A", "9": "?"})");
  EXPECT_EQ(*score("scienceqa", folder, "map.json").score, 50);
  test::write(folder / "partial.jsonl", line("\"4\"", "B", "q") + line("\"7\"", "A", "<image>\\nq"));
  const auto partial = score("scienceqa", folder, "partial.jsonl", true);
  EXPECT_EQ(*partial.score, 100);  // no answer, no recorded prompt: not a picture question
  EXPECT_NEAR(metric(partial, "accuracy"), 200 / 3.0, 1e-9);
}

TEST(Miniature, TextVqa) {
  const Folder folder;
  test::write(
      folder / "TextVQA_0.5.1_val.json",
      R"({"data": [{"image_id": "a1", "question": "What Brand?", "answers": ["x","x","x","x","x","x","x","x","x","y"]},
                           {"image_id": "a1", "question": "who?", "answers": ["1","1","1","1","1","1","1","1","1","1"]}]})");
  test::write(folder / "answers.jsonl", line("\"a1\"", "the y", "what brand?\\nReference OCR token: y, z\\nAnswer.") +
                                            line("\"a1\"", "One.", "Reference OCR token: y\\nwho?\\nAnswer."));
  const auto result = score("textvqa", folder, "answers.jsonl");
  EXPECT_NEAR(*result.score, 100 * (9 * (1 / 3.0) / 10 + 1) / 2, 1e-9);
  test::write(folder / "old.jsonl", line("\"a1\"", "x", "OCR tokens: y. Question: what brand? Short answer:") +
                                        line("\"a1\"", "2", "who?\\nAnswer."));
  EXPECT_NEAR(*score("textvqa", folder, "old.jsonl").score, 50, 1e-9);
  test::write(folder / "one.jsonl", line("\"a1\"", "1", "who?\\nAnswer."));
  EXPECT_NEAR(*score("textvqa", folder, "one.jsonl", true).score, 100, 1e-9);  // the mean is over what is there
  test::write(folder / "other.jsonl", line("\"a1\"", "1", "where?\\nAnswer."));
  EXPECT_THAT(refusal("textvqa", folder, "other.jsonl"),
              HasSubstr("other.jsonl:1] expected a question of the annotations"));
  test::write(folder / "long.jsonl", line("\"a1\"", "1", "who?"));
  EXPECT_THAT(refusal("textvqa", folder, "long.jsonl"), HasSubstr("long.jsonl:1] prompt: expected a question"));
}

TEST(Miniature, Pope) {
  const Folder folder;
  make_pope(folder);
  test::write(folder / "answers.jsonl", line("101", "Yes") + line("102", "No.") + line("103", "Yes") +
                                            line("104", "yes") + line("105", "no") + line("106", "There is not"));
  const auto result = score("pope", folder, "answers.jsonl");
  EXPECT_NEAR(*result.score, 100 * (1 + 2 / 3.0 + 0) / 3, 1e-9);
  EXPECT_EQ(metric(result, "popular/FP"), 1);
  EXPECT_EQ(metric(result, "random/yes_ratio"), 0);
  EXPECT_TRUE(result.warnings.empty());
}

TEST(Miniature, PopeLabelsBelongToAnswersByPosition) {
  const Folder folder;
  make_pope(folder);
  test::write(folder / "swapped.jsonl", line("102", "No") + line("101", "Yes") + line("103", "Yes") +
                                            line("104", "no") + line("105", "Yes") + line("106", "no"));
  const auto result = score("pope", folder, "swapped.jsonl");
  EXPECT_EQ(metric(result, "adversarial/TP"), 0);
  ASSERT_EQ(result.warnings.size(), 1u);
  EXPECT_THAT(result.warnings[0], HasSubstr("adversarial: 2 answers are about another picture"));
}

TEST(Miniature, Mme) {
  const Folder folder;
  const std::string base = "MME_Benchmark_release_version/";
  test::write(folder / (base + "count/1.txt"),
              "Is it one? Please answer yes or no.\tYes\r\nIs it two?  Please answer yes or no.\tNo\r\n\r\n");
  test::write(folder / (base + "OCR/images/.gitkeep"), "");
  test::write(folder / (base + "OCR/questions_answers_YN/a.b.txt"), "");
  test::write(folder / (base + "OCR/questions_answers_YN/a.txt"),
              "Is it a? Please answer yes or no.\tYes\nIs it b? Please answer yes or no.\tNo");
  const std::string suffix = "\\nAnswer the question using a single word or phrase.";
  test::write(folder / "answers.jsonl", line("\"count/1.jpg\"", "Yes", "Is it one?" + suffix) +
                                            line("\"count/1.jpg\"", "no!", "Is it two?" + suffix) +
                                            line("\"OCR/a.png\"", "Yes", "Is it a?" + suffix) +
                                            line("\"OCR/a.png\"", "maybe", "Is it b?" + suffix));
  const auto result = score("mme", folder, "answers.jsonl");
  EXPECT_EQ(metric(result, "per_task/count"), 200);
  EXPECT_EQ(metric(result, "per_task/OCR"), 50);
  EXPECT_EQ(metric(result, "OCR/other"), 1);
  EXPECT_EQ(*result.score, 250);
  EXPECT_EQ(metric(result, "cognition"), 0);
  EXPECT_THAT(result.credits, ElementsAre(1, 1, 1, 0));
  test::write(folder / "one.jsonl", line("\"count/1.jpg\"", "Yes", "Is it one?" + suffix));
  EXPECT_EQ(metric(score("mme", folder, "one.jsonl", true), "per_task/count"), 100);
  test::write(folder / "other.jsonl", line("\"count/2.jpg\"", "Yes", "Is it one?" + suffix));
  EXPECT_THAT(refusal("mme", folder, "other.jsonl"), HasSubstr("other.jsonl:1] expected a question of the benchmark"));
}

TEST(Miniature, MmBench) {
  const Folder folder;
  make_mmbench(folder);
  test::write(folder / "answers.jsonl",
              line("1", "A. red", "which?") + line("1000001", "it is red", "which?") + line("2", "C", "what?"));
  const auto result = score("mmbench", folder, "answers.jsonl");
  EXPECT_EQ(*result.score, 50);
  EXPECT_EQ(metric(result, "groups"), 2);
  EXPECT_EQ(metric(result, "group_sizes/2"), 1);
  EXPECT_EQ(metric(result, "predictions/Z"), 1);  // the second group has the single option A: C is none
  EXPECT_THAT(result.credits, ElementsAre(1, 1, 0));
  ASSERT_EQ(result.judge_requests.size(), 1u);
  EXPECT_EQ(result.judge_requests[0].id, "2");
  EXPECT_THAT(result.judge_requests[0].prompt,
              HasSubstr("Question: what??\nOptions: There are several options: \nA. cat\n"));
  const auto judged = score("mmbench", folder, "answers.jsonl", false, {{"2", {"gpt", "A", "f:1"}}});
  EXPECT_EQ(*judged.score, 100);
  EXPECT_EQ(judged.judge, "gpt");
  EXPECT_EQ(metric(judged, "rules/circular_eval"), 50);
  EXPECT_THAT(judged.credits, ElementsAre(1, 1, 1));
  EXPECT_TRUE(judged.judge_requests.empty());
}

TEST(Miniature, MmVet) {
  const Folder folder;
  make_mmvet(folder);
  test::write(folder / "grades.json", R"({"v1_0": {"model": ["g", "g"], "content": ["0.5", "1"], "score": [0.5, 1.0]},
    "v1_1": {"model": ["g", "g"], "content": ["0", "0.2"], "score": [0.0, 0.2]}})");
  const auto graded = score("mmvet", folder, "grades.json");
  EXPECT_EQ(metric(graded, "runs/0"), 25);
  EXPECT_EQ(metric(graded, "runs/1"), 60);
  EXPECT_EQ(metric(graded, "std"), 17.5);
  EXPECT_EQ(metric(graded, "capability_set/math_ocr"), 75);
  EXPECT_EQ(*graded.score, 42.5);
  EXPECT_EQ(graded.judge, "g");
  test::write(folder / "answers.jsonl", line("0", "x is -5 or -1", "x?") + line("1", "Cid", "who?"));
  const auto alone = score("mmvet", folder, "answers.jsonl");
  EXPECT_FALSE(alone.score);
  EXPECT_EQ(metric(alone, "rules/contains_answer"), 50);
  EXPECT_THAT(alone.credits, ElementsAre(1, 0));
  EXPECT_THAT(to_batch(alone.judge_requests, alone.judge_call),
              AllOf(HasSubstr("\"custom_id\": \"v1_1\""), HasSubstr("\"model\": \"gpt-4-0613\""),
                    HasSubstr("who? | Ann <OR> Bob | Cid | \"")));
  test::write(
      folder / "said.jsonl",
      R"({"custom_id": "v1_0", "response": {"body": {"model": "gpt-4", "choices": [{"message": {"content": "1.0 x"}}]}}}
{"custom_id": "v1_1", "response": {"body": {"model": "gpt-4", "choices": [{"message": {"content": "none"}}]}}}
)");
  const auto judged = score("mmvet", folder, "answers.jsonl", false, read_judgements((folder / "said.jsonl").string()));
  EXPECT_EQ(*judged.score, 50);
  EXPECT_EQ(judged.judge, "gpt-4");
  EXPECT_THAT(judged.credits, ElementsAre(1, 0));
  const auto partly = score("mmvet", folder, "answers.jsonl", true, {{"v1_0", {"gpt", "0.3", "f:1"}}});
  EXPECT_THAT(partly.credits, ElementsAre(0.3, std::nullopt));
}

double lmms_score(const std::string& task, const Folder& folder, const std::string& answers) {
  const Benchmark& benchmark = find_benchmark(task);
  return *benchmark
              .score({find_data(benchmark, folder.text()),
                      read_answers((folder / answers).string()),
                      {},
                      true,
                      Protocol::kLmmsEval})
              .score;
}

TEST(Miniature, AsLmmsEvalScores) {
  const Folder folder;
  make_vqav2(folder);
  test::write(folder / "vqav2.jsonl", line("1", "a cat.") + line("2", "a cat."));
  EXPECT_EQ(lmms_score("vqav2", folder, "vqav2.jsonl"), 100);  // both questions are normalised
  make_scienceqa(folder);
  test::write(folder / "scienceqa.jsonl", line("4", "B", "q") + line("7", "A.", "<image>") + line("9", "a", "<image>"));
  EXPECT_EQ(lmms_score("scienceqa", folder, "scienceqa.jsonl"), 50);
  test::write(folder / "testdev_balanced_questions.json",
              R"({"1": {"answer": "t-shirt", "isBalanced": true, "types": {"structural": "query"}}})");
  test::write(folder / "gqa.jsonl", line("1", "TShirt!"));
  EXPECT_EQ(lmms_score("gqa", folder, "gqa.jsonl"), 100);
  make_pope(folder);
  test::write(folder / "pope.jsonl", line("101", "Yes") + line("102", "No, there is not") + line("103", "yes") +
                                         line("104", "no") + line("105", "Yes.") + line("106", "NO"));
  EXPECT_NEAR(lmms_score("pope", folder, "pope.jsonl"), 100 * (1 + 1 + 0) / 3.0, 1e-9);
}

}  // namespace
}  // namespace vlmamba
