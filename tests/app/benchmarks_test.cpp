#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/base64.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/tsv.h"

// A miniature of every benchmark's folder, asked by a tiny model from end to end.
namespace vlmamba {
namespace {

using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;

void picture(const test::fs::path& path, int number) {
  test::fs::create_directories(path.parent_path());
  io::Image image{8, 8, {}};
  for (int j = 0; j < 192; ++j) image.rgb.push_back(static_cast<uint8_t>((number * 37 + j * 11) % 256));
  io::write_png(path.string(), image);  // what is in a file is told by its content, not by its name
}

std::string base64(const std::string& bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) text += i + j <= bytes.size() ? kDigits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

const std::string kShort = "\\nAnswer the question using a single word or phrase.";

std::string question(const std::string& id, const std::string& image, const std::string& text,
                     const std::string& category = "all") {
  return "{\"question_id\": " + id + ", \"image\": \"" + image + "\", \"text\": \"" + text + "\", \"category\": \"" +
         category + "\"}\n";
}

void make_vqav2(const test::fs::path& folder) {
  test::write(folder / "v2_OpenEnded_mscoco_val2014_questions.json",
              R"({"data_subtype": "val2014", "questions": [{"image_id": 7, "question": "what?", "question_id": 70}]})");
  test::write(folder / "v2_mscoco_val2014_annotations.json",
              R"({"annotations": [{"question_id": 70, "question_type": "what", "answer_type": "other",
                  "answers": [{"answer": "cat", "answer_id": 1}, {"answer": "dog", "answer_id": 2}]}]})");
  picture(folder / "val2014/COCO_val2014_000000000007.jpg", 1);
}

void make_gqa(const test::fs::path& folder) {
  test::write(folder / "data/testdev_balanced_questions.json", R"({"201": {"question": "is it?", "answer": "yes",
    "imageId": "n1", "isBalanced": true, "types": {"structural": "verify", "semantic": "rel"}},
    "202": {"question": "no answer", "imageId": "n1", "isBalanced": false, "types": {}}})");
  picture(folder / "data/images/n1.jpg", 2);
}

void make_scienceqa(const test::fs::path& folder) {
  test::write(folder / "pid_splits.json", R"({"test": ["4", "5"]})");
  test::write(
      folder / "problems.json",
      R"({"4": {"choices": ["x", "y"], "answer": 1}, "5": {"choices": ["x", "y"], "answer": 0, "image": "image.png"}})");
  test::write(folder / "llava_test_CQM-A.json",
              R"([{"id": "4", "conversations": [{"from": "human", "value": "q?\nA. x\nB. y"},
    {"from": "gpt", "value": "B"}]}, {"id": "5", "image": "5/image.png", "conversations": [{"from": "human",
    "value": "<image>\nContext: c\nq?\nA. x\nB. y"}, {"from": "gpt", "value": "A"}]}])");
  picture(folder / "images/test/5/image.png", 3);
}

void make_textvqa(const test::fs::path& folder) {
  test::write(folder / "llava_textvqa_val_v051_ocr.jsonl",
              question("\"a1\"", "a1.jpg", "what brand?\\nReference OCR token: x, y" + kShort));
  test::write(folder / "TextVQA_0.5.1_val.json", R"({"data": [{"image_id": "a1", "question": "What brand?",
    "answers": ["x","x","x","x","x","x","x","x","x","x"]}]})");
  picture(folder / "train_images/a1.jpg", 4);
}

void make_pope(const test::fs::path& folder) {
  std::string questions;
  for (const std::string category : {"adversarial", "random", "popular"}) {
    questions += question(std::to_string(questions.size()), "p.jpg", "Is there a cat in the image?" + kShort, category);
    test::write(folder / ("coco/coco_pope_" + category + ".json"),
                R"({"question_id": 1, "image": "p.jpg", "text": "Is there a cat in the image?", "label": "no"})");
  }
  test::write(folder / "llava_pope_test.jsonl", questions);
  picture(folder / "val2014/p.jpg", 5);
}

void make_mme(const test::fs::path& folder) {
  const std::string base = "MME_Benchmark_release_version/";
  test::write(folder / "llava_mme.jsonl",
              question("\"count/1.jpg\"", "count/1.jpg", "Is it one?" + kShort, "count") +
                  question("\"count/1.jpg\"", "count/1.jpg", "Is it two?" + kShort, "count") +
                  question("\"OCR/2.jpg\"", "OCR/2.jpg", "Is it a?" + kShort, "OCR") +
                  question("\"OCR/2.jpg\"", "OCR/2.jpg", "Is it b?" + kShort, "OCR"));
  test::write(folder / (base + "count/1.txt"),
              "Is it one? Please answer yes or no.\tYes\nIs it two? Please answer yes or no.\tNo\n");
  test::write(folder / (base + "OCR/questions_answers_YN/2.txt"),
              "Is it a? Please answer yes or no.\tYes\nIs it b? Please answer yes or no.\tNo\n");
  picture(folder / (base + "count/1.jpg"), 6);
  picture(folder / (base + "OCR/images/2.jpg"), 7);
}

void make_mmbench(const test::fs::path& folder) {
  picture(folder / "p.png", 8);
  const std::string image = base64(test::read(folder / "p.png"));
  EXPECT_EQ(io::decode_base64(image), test::read(folder / "p.png"));
  test::write(folder / "mmbench_dev_mini.tsv",
              "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tsource\tl2-category\tcomment\tsplit\n"
              "1\twhich?\ta & b\tred\tblue\t\t\tA\tc\t" +
                  image +
                  "\ts\tl\tnan\tdev\n"
                  "1000001\twhich?\t\tblue\tred\t\t\tB\tc\t1\ts\tl\tnan\tdev\n");
}

void make_mmvet(const test::fs::path& folder) {
  test::write(folder / "llava-mm-vet.jsonl", question("0", "v1_0.png", "x?", "conv"));
  test::write(folder / "mm-vet.json", R"({"v1_0": {"question": "x?", "answer": "1", "capability": ["math"]}})");
  picture(folder / "images/v1_0.png", 9);
}

std::string task(const std::string& kind, const std::string& more = "") {
  return "{\"name\": \"" + kind + "\", \"kind\": \"" + kind + "\", \"data\": \"" + kind + "\"" + more + "}";
}

// A run and all miniatures; `evaluate` asks some of them.
struct Benchmarks : TinyRun {
  Benchmarks() {
    const test::fs::path root(data);
    make_vqav2(root / "vqav2");
    make_gqa(root / "gqa");
    make_scienceqa(root / "scienceqa");
    make_textvqa(root / "textvqa");
    make_pope(root / "pope");
    make_mme(root / "mme");
    make_mmbench(root / "mmbench");
    make_mmvet(root / "mmvet");
  }
  test::Outcome evaluate(const std::string& tasks, const std::string& output, const Extensions& extensions = {}) const {
    return test::vlmamba({"evaluate", "--checkpoint", run(), "--output", run(output), "--set", "data_root=" + data,
                          "--set", "eval.tasks=[" + tasks + "]"},
                         extensions);
  }
  io::Json results(const std::string& output, const std::string& name) const {
    return io::read_json(run(output) + "/" + name + "/results.json", ExitCode::kData);
  }
};

TEST(Benchmarks, RunFromEndToEnd) {
  const Benchmarks tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string short_answer = ", \"max_new_tokens\": 4";
  std::string tasks;
  const std::map<std::string, size_t> questions{{"vqav2", 1}, {"gqa", 1}, {"scienceqa", 2}, {"textvqa", 1},
                                                {"pope", 3},  {"mme", 4}, {"mmbench", 2},   {"mmvet", 1}};
  for (const auto& [kind, count] : questions) tasks += (tasks.empty() ? "" : ", ") + task(kind, short_answer);
  const auto outcome = tiny.evaluate(tasks, "eval");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const auto& [kind, count] : questions) {
    const std::string folder = tiny.run("eval") + "/" + kind;
    const std::string answers = test::read(folder + "/answers.jsonl");
    EXPECT_EQ(static_cast<size_t>(std::count(answers.begin(), answers.end(), '\n')), count) << kind;
    const auto results = tiny.results("eval", kind);
    EXPECT_EQ(results.find("counts")->find("missing")->as_integer(), 0) << kind;
    // Anybody's scorer finds the same in the answers.
    const std::string again = tiny.run("again.json");
    ASSERT_EQ(test::vlmamba({"score", "--task", kind, "--data", tiny.data + "/" + kind, "--answers",
                             folder + "/answers.jsonl", "--output", again})
                  .code,
              0)
        << kind;
    const auto scored = io::read_json(again, ExitCode::kData);
    EXPECT_EQ(scored.find("score")->to_string(), results.find("score")->to_string()) << kind;
    EXPECT_EQ(scored.find("metrics")->to_string(), results.find("metrics")->to_string()) << kind;
    EXPECT_NE(scored.find("answers_provenance"), nullptr);
  }
}

TEST(Benchmarks, AreAskedAndRecordedAsLlavaDoes) {
  const Benchmarks tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string cut = ", \"max_new_tokens\": 1";
  ASSERT_EQ(tiny.evaluate(task("scienceqa", cut) + "," + task("mmbench", cut) + "," + task("mmvet", cut) + "," +
                              task("vqav2", cut) + "," + task("textvqa", cut + ", \"ocr_tokens\": \"ocr_first\""),
                          "llava")
                .code,
            0);
  const auto answers = [&](const std::string& output, const std::string& kind) {
    return test::read(tiny.run(output) + "/" + kind + "/answers.jsonl");
  };
  const std::string letter = "\\nAnswer with the option's letter from the given choices directly.\"";
  EXPECT_THAT(answers("llava", "scienceqa"),
              AllOf(HasSubstr("{\"question_id\": \"4\", \"prompt\": \"q?\\nA. x\\nB. y" + letter),
                    HasSubstr("\"prompt\": \"<image>\\nContext: c\\nq?\\nA. x\\nB. y" + letter)));
  EXPECT_THAT(answers("llava", "mmbench"),
              AllOf(HasSubstr("{\"question_id\": 1, \"prompt\": \"a & b\\nwhich?\\nA. red\\nB. blue\""),
                    HasSubstr("\"round_id\": 0, \"options\": [\"red\", \"blue\"], \"option_char\": [\"A\", \"B\"]")));
  EXPECT_THAT(answers("llava", "textvqa"),
              HasSubstr("\"prompt\": \"Reference OCR token: x, y\\nwhat brand?\\nAnswer the"));
  EXPECT_THAT(answers("llava", "vqav2"), HasSubstr("{\"question_id\": 70, \"prompt\": \"what?" + kShort));
  EXPECT_THAT(test::read(tiny.run("llava") + "/mmvet/submission.json"), HasSubstr("\"v1_0\": \""));
  EXPECT_THAT(test::read(tiny.run("llava") + "/mmvet/judge_requests.jsonl"), HasSubstr("x? | 1 | "));
  EXPECT_THAT(test::read(tiny.run("llava") + "/vqav2/submission.json"),
              HasSubstr("[{\"question_id\": 70, \"answer\": \""));
  const std::string sheet = test::read(tiny.run("llava") + "/mmbench/submission.xlsx");
  EXPECT_THAT(sheet, AllOf(testing::StartsWith("PK\3\4"), HasSubstr("<c r=\"A3\"><v>1000001</v></c>"),
                           HasSubstr("<c r=\"G1\" t=\"inlineStr\"><is><t xml:space=\"preserve\">prediction</t>"),
                           HasSubstr("<c r=\"I1\" t=\"inlineStr\"><is><t xml:space=\"preserve\">split</t>")));

  const std::string lmms = ", \"max_new_tokens\": 1, \"protocol\": \"lmms_eval\"";
  ASSERT_EQ(tiny.evaluate(task("mmbench", lmms) + "," + task("mmvet", lmms) + "," + task("textvqa", lmms), "lmms").code,
            0);
  EXPECT_THAT(answers("lmms", "mmbench"), HasSubstr("\"prompt\": \"a & b which? There are several options:\\nA. red"));
  EXPECT_THAT(answers("lmms", "mmvet"), HasSubstr("\"prompt\": \"First please perform reasoning"));
  EXPECT_THAT(answers("lmms", "textvqa"), HasSubstr("\"prompt\": \"What brand?\\nAnswer the"));
}

TEST(Benchmarks, NameWhatIsMissingBeforeAskingAnything) {
  const Benchmarks tiny;
  ASSERT_EQ(tiny.train().code, 0);
  test::fs::remove(tiny.data + "/pope/val2014/p.jpg");
  const auto outcome = tiny.evaluate(task("pope"), "eval");
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("pope/val2014/p.jpg] expected the picture of question 0, got no such file"),
                                 HasSubstr("3 of 3 questions")));
  EXPECT_FALSE(test::fs::exists(tiny.run("eval")));
  EXPECT_EQ(tiny.evaluate(task("pope", ", \"image\": \"blank\", \"max_new_tokens\": 1"), "blank").code, 0);
  const auto unknown = tiny.evaluate(R"({"name": "x", "kind": "vqa"})", "eval");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("expected one of jsonl, vqav2, gqa"));
}

TEST(Benchmarks, WithoutRightAnswersAreAskedButNotScored) {
  const Benchmarks tiny;
  ASSERT_EQ(tiny.train().code, 0);
  test::fs::remove(tiny.data + "/vqav2/v2_mscoco_val2014_annotations.json");
  ASSERT_EQ(tiny.evaluate(task("vqav2", ", \"max_new_tokens\": 1"), "eval").code, 0);
  const auto results = tiny.results("eval", "vqav2");
  EXPECT_TRUE(results.find("score")->is_null());
  EXPECT_THAT(results.find("warnings")->items().at(0).as_string(), HasSubstr("asked, but not scored"));
  EXPECT_TRUE(test::fs::exists(tiny.run("eval") + "/vqav2/submission.json"));
}

TEST(Jsonl, ScoresByAnyMetric) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  test::write(tiny.data + "/own.jsonl",
              R"({"question_id": 1, "text": "q", "answer": "yes", "answers": ["yes"], "options": ["a", "b"]}
{"question_id": "b", "image": "images/1.png", "text": "q", "answer": ["no", "none"], "options": ["a", "b"]}
)");
  for (const std::string metric : {"exact", "vqa", "yes_no", "choice"}) {
    const auto outcome = test::vlmamba(
        {"evaluate", "--checkpoint", tiny.run(), "--output", tiny.run(metric), "--set", "data_root=" + tiny.data,
         "--set", "eval.tasks=[{\"name\": \"own\", \"questions\": \"own.jsonl\", \"metric\": \"" + metric + "\"}]"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto results = io::read_json(tiny.run(metric) + "/own/results.json", ExitCode::kData);
    EXPECT_TRUE(results.find("score")->is_number());
    EXPECT_EQ(results.find("num_questions")->as_integer(), 2);
  }
}

class CountTask : public Task {
 public:
  std::vector<TaskQuestion> questions() const override {
    TaskQuestion question;
    question.id = "only";
    question.text = question.prompt = "how many?";
    return {question};
  }
  ScoreResult score(const std::vector<TaskQuestion>& asked, const AnswerFile& answers) const override {
    ScoreResult result;
    result.score = static_cast<double>(asked.size() + answers.answers.size());
    return result;
  }
};

TEST(Extensions, BringTasks) {
  const Benchmarks tiny;
  ASSERT_EQ(tiny.train().code, 0);
  Extensions extensions;
  extensions.tasks["count"] = [](const TaskConfig&) { return std::make_shared<CountTask>(); };
  ASSERT_EQ(tiny.evaluate(R"({"name": "mine", "kind": "count"})", "eval", extensions).code, 0);
  EXPECT_EQ(tiny.results("eval", "mine").find("score")->as_number(), 2);
  EXPECT_EQ(tiny.evaluate(R"({"name": "mine", "kind": "count"})", "eval").code, 2);
}

}  // namespace
}  // namespace vlmamba
