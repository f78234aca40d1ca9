#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/app/tiny_run.h"
#include "vlmamba/eval/benchmark.h"

// A miniature of every benchmark's files, scored by hand; and what is wrong with files in the wild.
namespace vlmamba {
namespace {

using test::Folder;
using testing::AllOf;
using testing::HasSubstr;

ScoreResult score(const std::string& task, const Folder& folder, const std::string& answers, bool allow_partial = false,
                  std::map<std::string, Judgement> judgements = {}) {
  const Benchmark& benchmark = find_benchmark(task);
  return benchmark.score({find_data(benchmark, folder.text()), read_answers((folder / answers).string()),
                          std::move(judgements), allow_partial});
}

std::string refusal(const std::string& task, const Folder& folder, const std::string& answers,
                    bool allow_partial = false) {
  try {
    score(task, folder, answers, allow_partial);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    return error.what();
  }
  return "no error";
}

double metric(const ScoreResult& result, const std::string& name) {
  const io::Json* found = result.metrics.find(name);
  EXPECT_NE(found, nullptr) << name;
  return found ? found->as_number() : -1;
}

std::string line(const std::string& id, const std::string& text, const std::string& prompt = "") {
  return "{\"question_id\": " + id + (prompt.empty() ? "" : ", \"prompt\": \"" + prompt + "\"") + ", \"text\": \"" +
         text + "\"}\n";
}

void make_vqav2(const Folder& folder) {
  const auto annotation = [](const std::string& id, const std::string& type, const std::string& first) {
    std::string answers;
    for (int i = 0; i < 10; ++i)
      answers += std::string(i ? "," : "") + R"({"answer": ")" + (i == 0 ? first : "Cat") + R"(", "answer_id": )" +
                 std::to_string(i + 1) + "}";
    return R"({"question_id": )" + id + R"(, "question_type": "what", "answer_type": ")" + type + R"(", "answers": [)" +
           answers + "]}";
  };
  test::write(folder / "v2_OpenEnded_mscoco_val2014_questions.json",
              R"({"info": {}, "questions": [{"image_id": 1, "question": "what is it?", "question_id": 1},
               {"image_id": 1, "question": "who?", "question_id": 2}]})");
  test::write(folder / "v2_mscoco_val2014_annotations.json",
              "\xEF\xBB\xBF{\"annotations\": [" + annotation("1", "other", "dog") + ",\n" +
                  annotation("2", "number", "Cat") + "], \"license\": {}}");
}

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

void make_scienceqa(const Folder& folder) {
  test::write(folder / "pid_splits.json", R"({"test": ["4", "7", "9"], "train": ["1"]})");
  test::write(folder / "problems.json", R"({"1": {"choices": ["x"], "answer": 0},
    "4": {"choices": ["x", "y"], "answer": 1, "image": null}, "7": {"choices": ["x", "y"], "answer": 0, "image": "image.png"},
    "9": {"choices": ["x", "y"], "answer": 0, "image": "image.png"}})");
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

void make_pope(const Folder& folder) {
  std::string questions;
  int id = 100;
  for (const std::string category : {"adversarial", "popular", "random"}) {
    std::string labels;
    for (const std::string label : {"yes", "no"}) {
      const std::string image = "\"image\": \"" + category + label + ".jpg\"";
      questions += "{\"question_id\": " + std::to_string(++id) + ", " + image + ", \"category\": \"" + category +
                   "\", \"text\": \"Is there a " + label + "?\\nAnswer.\"}\n";
      labels += "{\"question_id\": 1, " + image + ", \"label\": \"" + label + "\"}\n";
    }
    test::write(folder / ("coco/coco_pope_" + category + ".json"), labels);
  }
  test::write(folder / "llava_pope_test.jsonl", questions);
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
  test::write(folder / "one.jsonl", line("\"count/1.jpg\"", "Yes", "Is it one?" + suffix));
  EXPECT_EQ(metric(score("mme", folder, "one.jsonl", true), "per_task/count"), 100);
  test::write(folder / "other.jsonl", line("\"count/2.jpg\"", "Yes", "Is it one?" + suffix));
  EXPECT_THAT(refusal("mme", folder, "other.jsonl"), HasSubstr("other.jsonl:1] expected a question of the benchmark"));
}

void make_mmbench(const Folder& folder) {
  test::write(folder / "mmbench_dev_mini.tsv",
              "index\tquestion\thint\tA\tB\tC\tD\tanswer\n"
              "1\twhich?\t\"one \"\"two\"\"\n\tthree\"\tred\tblue\tgreen\tnan\tA\n"
              "1000001\twhich?\t\tblue\tgreen\tred\t\tC\r\n\r\n"
              "2\twhat?\tNaN\tcat\tNA\tdog\t\tA\n");
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
  ASSERT_EQ(result.judge_requests.size(), 1u);
  EXPECT_EQ(result.judge_requests[0].id, "2");
  EXPECT_THAT(result.judge_requests[0].prompt,
              HasSubstr("Question: what??\nOptions: There are several options: \nA. cat\n"));
  const auto judged = score("mmbench", folder, "answers.jsonl", false, {{"2", {"gpt", "A", "f:1"}}});
  EXPECT_EQ(*judged.score, 100);
  EXPECT_EQ(judged.judge, "gpt");
  EXPECT_EQ(metric(judged, "rules/circular_eval"), 50);
  EXPECT_TRUE(judged.judge_requests.empty());
}

void make_mmvet(const Folder& folder) {
  test::write(folder / "mm-vet.json",
              R"({"v1_0": {"question": "x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]},
    "v1_1": {"question": "who?", "answer": "Ann<OR>Bob", "capability": ["rec"]}})");
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

struct BadAnswers {
  std::string what, content, message;
};

class AnswerFiles : public testing::TestWithParam<BadAnswers> {};

TEST_P(AnswerFiles, AreNamedWithTheLine) {
  const Folder folder;
  make_pope(folder);
  test::write(folder / "answers.jsonl", GetParam().content);
  EXPECT_THAT(refusal("pope", folder, "answers.jsonl"), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Bad, AnswerFiles,
    testing::Values(
        BadAnswers{"empty", "", "answers.jsonl] expected answers: LLaVA's lines"},
        BadAnswers{"blank", "\n \n", "answers.jsonl] expected answers: LLaVA's lines"},
        BadAnswers{"text", "hello", "answers.jsonl:1] expected answers: LLaVA's lines"},
        BadAnswers{"cut off", line("101", "Yes") + "{\"question_id\": 102, \"te", "answers.jsonl:2:"},
        BadAnswers{"two on a line", line("101", "Yes") + "{\"question_id\": 102, \"text\": \"a\"} {}",
                   "answers.jsonl:2:"},
        BadAnswers{"number as line", line("101", "Yes") + "7\n", "answers.jsonl:2] expected an object"},
        BadAnswers{"no id", line("101", "Yes") + "{\"text\": \"a\"}\n",
                   "answers.jsonl:2] question_id: expected a string"},
        BadAnswers{"fraction as id", line("1.5", "Yes"), "question_id: expected a string or an integer, got 1.5"},
        BadAnswers{"no text", line("101", "Yes") + "{\"question_id\": 102}\n",
                   "answers.jsonl:2:1] expected the key \"text\""},
        BadAnswers{"text is null", "{\"question_id\": 102, \"text\": null}\n", "text: expected a string, got null"},
        BadAnswers{"bad byte", "{\"question_id\": 101, \"text\": \"\xff\"}\n", "answers.jsonl:1:"},
        BadAnswers{"twice", line("101", "Yes") + line("102", "No") + line("101", "No"),
                   "answers.jsonl:3] question_id: expected each id once, got 101 again after line 1"},
        BadAnswers{"unknown", line("101", "Yes") + line("7", "No") + line("8", "No"),
                   "answers.jsonl:2] question_id: expected one of the 6 questions, got 7 (2 unknown ids in the file)"},
        BadAnswers{"other prompts", line("101", "4", "What is two and two?") + line("102", "5", "And three?"),
                   "answers.jsonl:1] expected answers to this benchmark's questions"},
        BadAnswers{"partial", line("101", "Yes") + line("103", "No"),
                   "expected answers to all 6 questions, got 2; missing 4: 102, 104, 105, 106"},
        BadAnswers{"list of numbers", "[1, 2]", "answers.jsonl:1] expected an object, got an integer"},
        BadAnswers{"list without end", "[{\"question_id\": 1,\n \"answer\": \"a\"}", "answers.jsonl:2:"},
        BadAnswers{"map of numbers", "{\"101\": 5}", "answers.jsonl:1] \"101\": expected a text or grades, got 5"},
        BadAnswers{"map without end", "{\"101\": \"a\"", "answers.jsonl:1:"},
        BadAnswers{
            "grades", "{\"101\": {\"score\": [1.0]}}",
            "expected answer lines {\"question_id\", \"prompt\", \"text\"} or a result list or an object from id to "
            "text, got a judge's grades"},
        BadAnswers{"grade beyond one", "{\"101\": {\"score\": [1.5]}}", "expected scores between 0 and 1, got 1.5"}),
    [](const auto& info) {
      std::string name = info.param.what;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

TEST(Data, IsFoundByRole) {
  const Folder folder;
  make_pope(folder);
  const auto files = find_data(find_benchmark("pope"), folder.text());
  EXPECT_THAT(files.at("random labels"), HasSubstr("coco/coco_pope_random.json"));
  test::fs::remove(folder / "coco/coco_pope_random.json");
  test::write(folder / "answers.jsonl", line("101", "Yes"));
  EXPECT_THAT(
      refusal("pope", folder, "answers.jsonl"),
      AllOf(HasSubstr("random labels: expected one match of {,coco/,output/coco/}coco_pope_random.json, got none"),
            HasSubstr("the folder holds answers.jsonl, coco/, llava_pope_test.jsonl")));
  test::write(folder / "coco/coco_pope_random.json", "");
  test::write(folder / "coco_pope_random.json", "");
  EXPECT_THAT(refusal("pope", folder, "answers.jsonl"),
              AllOf(HasSubstr("random labels: expected one match"), HasSubstr("got 2: ")));
  EXPECT_THROW(find_data(find_benchmark("pope"), (folder / "none").string()), Error);
  EXPECT_THROW(find_benchmark("vqa"), Error);
}

TEST(Data, IsNamedWithItsLineWhereItIsWrong) {
  const Folder folder;
  make_mmbench(folder);
  test::write(folder / "answers.jsonl", line("1", "A"));
  test::write(folder / "mmbench_dev_mini.tsv", "index\tquestion\tA\tanswer\n1\t\"a\nb\"\tx\tA\n1\tq\tx\tA\n");
  EXPECT_THAT(refusal("mmbench", folder, "answers.jsonl"),
              HasSubstr("mini.tsv:4] index: expected each once, got 1 again"));
  test::write(folder / "mmbench_dev_mini.tsv", "index\tquestion\tA\tanswer\n1\tq\tx\t\n");
  EXPECT_THAT(refusal("mmbench", folder, "answers.jsonl"), HasSubstr("mini.tsv:2] answer: expected a letter A to D"));
  test::write(folder / "mmbench_dev_mini.tsv", "index\tquestion\tA\tanswer\n1\t\"q\tx\tA\n");
  EXPECT_THAT(refusal("mmbench", folder, "answers.jsonl"), HasSubstr("mini.tsv:2] expected a closing quote"));
  make_vqav2(folder);
  test::write(folder / "v2_OpenEnded_mscoco_val2014_questions.json",
              R"({"questions": [{"question": "what is it?", "question_id": 1}]})");
  EXPECT_THAT(refusal("vqav2", folder, "answers.jsonl"), HasSubstr("expected a question with the annotated id 2"));
}

TEST(Score, IsWrittenWithWhatItCameFrom) {
  const Folder folder;
  make_mmvet(folder);
  test::write(folder / "answers.jsonl", line("0", "-5 and -1", "x?"));
  const std::string output = (folder / "out/results.json").string();
  std::vector<std::string> arguments{
      "score",    "--task", "mmvet", "--data", folder.text(), "--answers", (folder / "answers.jsonl").string(),
      "--output", output};
  const auto refused = test::vlmamba(arguments);
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("missing 1: v1_1"));
  EXPECT_FALSE(test::fs::exists(output));
  arguments.push_back("--allow-partial");
  const auto outcome = test::vlmamba(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("mmvet: 1 of 2 questions answered, 1 missing"));
  const auto results = io::read_json(output, ExitCode::kData);
  EXPECT_TRUE(results.find("score")->is_null());
  EXPECT_EQ(results.find("counts")->find("missing")->as_integer(), 1);
  EXPECT_THAT(results.find("command")->as_string(), HasSubstr("vlmamba score --task mmvet --data"));
  EXPECT_THAT(test::read(folder / "out/results.judge_requests.jsonl"), HasSubstr("\"custom_id\": \"v1_0\""));
}

}  // namespace
}  // namespace vlmamba
