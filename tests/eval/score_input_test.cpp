#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/eval/miniatures.h"

// What is wrong with files in the wild.
namespace vlmamba {
namespace {

using test::Folder;
using test::line;
using test::make_mmbench;
using test::make_mmvet;
using test::make_pope;
using test::make_vqav2;
using test::refusal;
using test::score;
using testing::AllOf;
using testing::HasSubstr;

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
