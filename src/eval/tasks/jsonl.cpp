#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/data/example.h"
#include "vlmamba/eval/metrics/choice.h"
#include "vlmamba/eval/metrics/vqa_accuracy.h"
#include "vlmamba/eval/metrics/yes_no.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;

std::vector<std::string> texts_of(const Json& json, const char* key, const std::string& path) {
  const Json* value = json.find(key);
  if (value && value->is_string()) return {value->as_string()};
  std::vector<std::string> texts;
  for (const Json& text : io::require(json, key, Json::Kind::kArray, path, kCode).items())
    if (text.is_string()) texts.push_back(text.as_string());
  if (texts.empty() || texts.size() != value->items().size())
    throw Error(kCode, path + ":" + std::to_string(value->line), std::string(key) + ": expected texts");
  return texts;
}

std::string optional_text(const Json& json, const char* key, const std::string& absent, const std::string& path,
                          int64_t line) {
  const Json* value = json.find(key);
  if (value == nullptr || value->is_null()) return absent;
  if (value->is_string()) return value->as_string();
  throw Error(kCode, path + ":" + std::to_string(line),
              std::string(key) + ": expected a string, got " + std::string(io::kind_name(value->kind())));
}

void expect_own_ids(const std::vector<TaskQuestion>& questions, const std::vector<int64_t>& lines,
                    const std::string& path) {
  std::unordered_map<std::string_view, int64_t> seen;
  for (size_t i = 0; i < questions.size(); ++i)
    if (const auto [first, fresh] = seen.emplace(questions[i].id, lines[i]); !fresh)
      throw Error(kCode, path + ":" + std::to_string(lines[i]),
                  "question_id: expected each once, got " + questions[i].id + " again after line " +
                      std::to_string(first->second));
}

// Anyone's own benchmark: LLaVA's question lines, with the right answer beside each.
class JsonlTask : public Task {
 public:
  explicit JsonlTask(const TaskConfig& config) : config_(config) {}

  std::vector<TaskQuestion> questions() const override {
    const std::string& path = config_.questions;
    std::vector<int64_t> lines;
    auto questions = read_llava_questions(path, [&](const Json& json, TaskQuestion& question) {
      lines.push_back(json.line);
      question.truths = texts_of(json, json.find("answers") ? "answers" : "answer", path);
      if (config_.metric == JsonlMetric::kChoice) question.options = texts_of(json, "options", path);
    });
    if (questions.empty()) throw Error(kCode, path, "expected questions, got none");
    expect_own_ids(questions, lines, path);
    for (auto& question : questions)
      if (!question.image.empty()) question.image = picture_path(config_.image_root, question.image);
    return questions;
  }

  ScoreResult score(const std::vector<TaskQuestion>& asked, const AnswerFile& answers) const override {
    Mean all;
    Means by_category;
    YesNoCounts yes_no;
    ScoreResult result;
    for (size_t i = 0; i < asked.size(); ++i) {
      const double value = score_one(asked[i], answers.answers[i].text);
      all.add(value);
      result.credits.emplace_back(value);
      by_category[asked[i].category].add(value);
      if (config_.metric == JsonlMetric::kYesNo)
        yes_no.add(pope_answer(answers.answers[i].text), exact_match(asked[i].truths[0], "yes"));
    }
    result.score = all.percent();
    result.counts.set("questions", all.count());
    result.metrics.append(metric_name(), all.percent());
    append_percents(metric_name() + "_by_category", by_category, result.metrics);
    for (const auto& [category, mean] : by_category) result.by_category[category] = mean.percent();
    if (config_.metric == JsonlMetric::kYesNo) {
      result.metrics.append("precision", yes_no.precision());
      result.metrics.append("recall", yes_no.recall());
      result.metrics.append("f1", yes_no.f1());
    }
    return result;
  }

 private:
  std::string metric_name() const {
    switch (config_.metric) {
      case JsonlMetric::kExact:
        return "exact_match";
      case JsonlMetric::kVqa:
        return "vqa_accuracy";
      case JsonlMetric::kYesNo:
      case JsonlMetric::kChoice:
        return "accuracy";
    }
    return "?";
  }

  double score_one(const TaskQuestion& question, const std::string& answer) const {
    switch (config_.metric) {
      case JsonlMetric::kExact:
        return std::any_of(question.truths.begin(), question.truths.end(),
                           [&](const std::string& truth) { return exact_match(answer, truth); });
      case JsonlMetric::kVqa:
        return textvqa_accuracy(answer, question.truths);
      case JsonlMetric::kYesNo:
        return (pope_answer(answer) == YesNo::kYes) == exact_match(question.truths[0], "yes");
      case JsonlMetric::kChoice: {
        const auto letter = mmbench_choice(answer, question.options);
        return letter && std::string(1, *letter) == question.truths[0];
      }
    }
    return 0;
  }

  TaskConfig config_;
};

}  // namespace

std::shared_ptr<Task> make_jsonl(const TaskConfig& config) { return std::make_shared<JsonlTask>(config); }

std::vector<TaskQuestion> read_llava_questions(const std::string& path,
                                               const std::function<void(const Json&, TaskQuestion&)>& more) {
  std::vector<TaskQuestion> questions;
  io::for_each_line(io::read_file(path, kCode), path, kCode, [&](const Json& json, int64_t line) {
    if (!json.is_object())
      throw Error(kCode, path + ":" + std::to_string(line),
                  "expected an object, got " + std::string(io::kind_name(json.kind())));
    TaskQuestion question;
    question.id = id_text(json, "question_id", path, line);
    question.integer_id = json.find("question_id")->is_integer();
    question.text = question.prompt = text_of(json, "text", path);
    question.image = optional_text(json, "image", "", path, line);
    question.category = optional_text(json, "category", "all", path, line);
    if (more) more(json, question);
    questions.push_back(std::move(question));
  });
  return questions;
}

}  // namespace vlmamba::tasks
