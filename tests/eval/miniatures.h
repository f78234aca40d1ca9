#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/app/tiny_run.h"
#include "vlmamba/eval/benchmark.h"

/// A miniature of every benchmark's files, and their scores.
namespace vlmamba::test {

inline ScoreResult score(const std::string& task, const Folder& folder, const std::string& answers,
                         bool allow_partial = false, std::map<std::string, Judgement> judgements = {}) {
  const Benchmark& benchmark = find_benchmark(task);
  return benchmark.score({find_data(benchmark, folder.text()), read_answers((folder / answers).string()),
                          std::move(judgements), allow_partial});
}

inline std::string refusal(const std::string& task, const Folder& folder, const std::string& answers,
                           bool allow_partial = false) {
  try {
    score(task, folder, answers, allow_partial);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    return error.what();
  }
  return "no error";
}

inline double metric(const ScoreResult& result, const std::string& name) {
  const io::Json* found = result.metrics.find(name);
  EXPECT_NE(found, nullptr) << name;
  return found ? found->as_number() : -1;
}

inline std::string line(const std::string& id, const std::string& text, const std::string& prompt = "") {
  return "{\"question_id\": " + id + (prompt.empty() ? "" : ", \"prompt\": \"" + prompt + "\"") + ", \"text\": \"" +
         text + "\"}\n";
}

inline void make_vqav2(const Folder& folder) {
  const auto annotation = [](const std::string& id, const std::string& type, const std::string& first) {
    std::string answers;
    for (int i = 0; i < 10; ++i)
      answers += std::string(i ? "," : "") + R"({"answer": ")" + (i == 0 ? first : "Cat") + R"(", "answer_id": )" +
                 std::to_string(i + 1) + "}";
    return R"({"question_id": )" + id + R"(, "question_type": "what", "answer_type": ")" + type + R"(", "answers": [)" +
           answers + "]}";
  };
  write(folder / "v2_OpenEnded_mscoco_val2014_questions.json",
        R"({"info": {}, "questions": [{"image_id": 1, "question": "what is it?", "question_id": 1},
               {"image_id": 1, "question": "who?", "question_id": 2}]})");
  write(folder / "v2_mscoco_val2014_annotations.json", "\xEF\xBB\xBF{\"annotations\": [" +
                                                           annotation("1", "other", "dog") + ",\n" +
                                                           annotation("2", "number", "Cat") + "], \"license\": {}}");
}

inline void make_scienceqa(const Folder& folder) {
  write(folder / "pid_splits.json", R"({"test": ["4", "7", "9"], "train": ["1"]})");
  write(folder / "problems.json", R"({"1": {"choices": ["x"], "answer": 0},
    "4": {"choices": ["x", "y"], "answer": 1, "image": null}, "7": {"choices": ["x", "y"], "answer": 0, "image": "image.png"},
    "9": {"choices": ["x", "y"], "answer": 0, "image": "image.png"}})");
}

inline void make_pope(const Folder& folder) {
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
    write(folder / ("coco/coco_pope_" + category + ".json"), labels);
  }
  write(folder / "llava_pope_test.jsonl", questions);
}

inline void make_mmbench(const Folder& folder) {
  write(folder / "mmbench_dev_mini.tsv",
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\n"
        "1\twhich?\t\"one \"\"two\"\"\n\tthree\"\tred\tblue\tgreen\tnan\tA\n"
        "1000001\twhich?\t\tblue\tgreen\tred\t\tC\r\n\r\n"
        "2\twhat?\tNaN\tcat\tNA\tdog\t\tA\n");
}

inline void make_mmvet(const Folder& folder) {
  write(folder / "mm-vet.json",
        R"({"v1_0": {"question": "x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]},
    "v1_1": {"question": "who?", "answer": "Ann<OR>Bob", "capability": ["rec"]}})");
}

}  // namespace vlmamba::test
