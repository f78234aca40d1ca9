#include <algorithm>
#include <cctype>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;

struct Truth {
  std::string answer, structural, semantic;
};

void read_question(const std::string& id, const Json& json, const std::string& path, std::vector<Asked>& asked,
                   std::vector<Truth>& truths) {
  const bool balanced = io::require(json, "isBalanced", Json::Kind::kBool, path, kCode).as_bool();
  const Json* text = json.find("question");
  asked.push_back({id, text && text->is_string() ? text->as_string() : "", balanced});
  truths.emplace_back();
  if (!balanced) return;  // never scored, and some have no answer
  const Json& types = io::require(json, "types", Json::Kind::kObject, path, kCode);
  truths.back() = {text_of(json, "answer", path), text_of(types, "structural", path), ""};
  if (const Json* semantic = types.find("semantic"); semantic && semantic->is_string())
    truths.back().semantic = semantic->as_string();
}

// What LLaVA's converter makes of an answer; official predictions are compared as they are.
std::string prediction_of(const Answer& answer, AnswerForm form) {
  if (form == AnswerForm::kResults) return answer.text;
  std::string_view text = answer.text;
  while (!text.empty() && text.back() == '.') text.remove_suffix(1);
  return unicode::lower(text);
}

// lmms-eval ignores case and punctuation.
std::string without_punctuation(const std::string& text) {
  std::string small = unicode::lower(text);
  small.erase(std::remove_if(small.begin(), small.end(), [](unsigned char c) { return c < 0x80 && std::ispunct(c); }),
              small.end());
  return small;
}

bool is_right(const Answer& answer, const Truth& truth, const ScoreInput& input) {
  if (input.protocol == Protocol::kLmmsEval)
    return without_punctuation(answer.text) == without_punctuation(truth.answer);
  return prediction_of(answer, input.answers.form) == truth.answer;
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines, AnswerForm::kResults, AnswerForm::kMap});
  const std::string& path = input.data.at("questions");
  std::vector<Asked> asked;
  std::vector<Truth> truths;
  io::for_each_member(io::read_file(path, kCode), path, kCode, [&](const std::string& id, const Json& json, int64_t) {
    read_question(id, json, path, asked, truths);
  });
  ScoreResult result;
  const auto matched = match_answers(asked, input, result);
  Mean all, open, binary;
  Means by_structural, by_semantic;
  for (size_t i = 0; i < asked.size(); ++i) {
    if (!asked[i].needed) continue;
    const auto& truth = truths[i];
    const bool right = matched[i] && is_right(*matched[i], truth, input);
    const double value = right ? 1 : 0;
    all.add(value);
    if (matched[i]) give_credit(*matched[i], value, input, result);
    (truth.structural == "query" ? open : binary).add(value);
    by_structural[truth.structural].add(value);
    if (!truth.semantic.empty()) by_semantic[truth.semantic].add(value);
  }
  result.score = all.percent();
  result.metrics.append("questions", all.count());
  result.metrics.append("accuracy", all.percent());
  result.metrics.append("open", open.percent());
  result.metrics.append("binary", binary.percent());
  append_percents("per_structural", by_structural, result.metrics);
  append_percents("per_semantic", by_semantic, result.metrics);
  result.counts.set("unbalanced", static_cast<int64_t>(asked.size()) - all.count());
  return result;
}

// LLaVA's lines where they are, else the balanced questions themselves.
std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions&) {
  if (const auto lines = data.find("lines"); lines != data.end()) return read_llava_questions(lines->second);
  const std::string& path = data.at("questions");
  std::vector<TaskQuestion> questions;
  io::for_each_member(io::read_file(path, kCode), path, kCode, [&](const std::string& id, const Json& json, int64_t) {
    if (!io::require(json, "isBalanced", Json::Kind::kBool, path, kCode).as_bool()) return;
    TaskQuestion question;
    question.id = id;
    question.image = text_of(json, "imageId", path) + ".jpg";
    question.text = question.prompt = text_of(json, "question", path) + kShortSuffix;
    questions.push_back(std::move(question));
  });
  return questions;
}

std::vector<std::string> picture_places(const std::string& image) {
  return {"data/images/" + image, "images/" + image, image};
}

}  // namespace

Benchmark gqa() {
  return {"gqa",
          "accuracy over the balanced questions, in percent",
          {{"questions", "{,data/}{testdev_balanced_questions,questions}.json"}},
          score,
          {{"lines", "llava_gqa_testdev_balanced.jsonl", false},
           {"questions", "{,data/}{testdev_balanced_questions,questions}.json"}},
          questions_of,
          picture_places};
}

}  // namespace vlmamba::tasks
