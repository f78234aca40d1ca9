#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/choice.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;
constexpr const char* kSplit = "test";

struct Problem {
  int64_t num_choices = 0, answer = 0;
  bool has_image = false;
};

std::map<std::string, Problem> read_problems(const std::string& path) {
  std::map<std::string, Problem> problems;
  io::for_each_member(io::read_file(path, kCode), path, kCode, [&](const std::string& id, const Json& json, int64_t) {
    const auto choices = io::require(json, "choices", Json::Kind::kArray, path, kCode).items().size();
    const int64_t answer = io::require(json, "answer", Json::Kind::kInteger, path, kCode).as_integer();
    if (answer < 0 || answer >= static_cast<int64_t>(choices))
      throw Error(kCode, path + ":" + std::to_string(json.line),
                  id + ": expected an answer below " + std::to_string(choices) + ", got " + std::to_string(answer));
    const Json* image = json.find("image");
    problems[id] = {static_cast<int64_t>(choices), answer, image && image->is_string() && !image->as_string().empty()};
  });
  return problems;
}

std::vector<Asked> read_split(const std::string& path, const std::map<std::string, Problem>& problems,
                              const std::string& problems_path) {
  const Json splits = io::read_json(path, kCode);
  std::vector<Asked> asked;
  for (const Json& id : io::require(splits, kSplit, Json::Kind::kArray, path, kCode).items()) {
    if (!id.is_string() && !id.is_integer())
      throw Error(kCode, path + ":" + std::to_string(id.line), "expected ids, got " + id.to_string());
    asked.push_back({id.is_string() ? id.as_string() : std::to_string(id.as_integer())});
    if (!problems.contains(asked.back().id))
      throw Error(kCode, problems_path,
                  "expected a problem with the id " + asked.back().id + " of " + path + ", got none");
  }
  return asked;
}

// The picture questions by LLaVA's question file.
void mark_images(const std::string& path, std::map<std::string, Problem>& problems) {
  io::for_each_element(io::read_file(path, kCode), "", path, kCode, [&](const Json& json, int64_t line) {
    const auto found = problems.find(id_text(json, "id", path, line));
    if (found != problems.end()) found->second.has_image = json.find("image") != nullptr;
  });
}

// lmms-eval: a capital letter and a period begin the answer, or it is the letter alone.
std::optional<char> lmms_letter(const std::string& answer) {
  const auto text = unicode::strip(answer);
  const bool capital = !text.empty() && text[0] >= 'A' && text[0] <= 'Z';
  return capital && (text.size() == 1 || text[1] == '.') ? std::optional(text[0]) : std::nullopt;
}

std::optional<char> letter_of(const Answer* answer, Protocol protocol) {
  if (answer == nullptr) return std::nullopt;
  return protocol == Protocol::kLmmsEval ? lmms_letter(answer->text) : scienceqa_letter(answer->text);
}

bool asks_about_image(const Answer& answer) { return answer.prompt.find("<image>") != std::string::npos; }

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines, AnswerForm::kResults, AnswerForm::kMap});
  auto problems = read_problems(input.data.at("problems"));
  const auto asked = read_split(input.data.at("splits"), problems, input.data.at("problems"));
  if (const auto questions = input.data.find("questions"); questions != input.data.end())
    mark_images(questions->second, problems);
  ScoreResult result;
  const auto matched = match_answers(asked, input, result);
  bool recorded = false;  // do the prompts tell which questions have a picture?
  for (const auto& answer : input.answers.answers) recorded = recorded || asks_about_image(answer);
  int64_t correct = 0, image_total = 0, image_correct = 0, failed = 0;
  Json failures = Json::object();
  for (size_t i = 0; i < asked.size(); ++i) {
    const Problem& problem = problems.at(asked[i].id);
    const auto letter = letter_of(matched[i], input.protocol);
    const bool right = letter && *letter - 'A' < problem.num_choices && *letter - 'A' == problem.answer;
    const bool image = matched[i] && (recorded ? asks_about_image(*matched[i]) : problem.has_image);
    correct += right ? 1 : 0;
    if (matched[i]) give_credit(*matched[i], right ? 1 : 0, input, result);
    image_total += image ? 1 : 0;
    image_correct += image && right ? 1 : 0;
    failed += letter ? 0 : 1;
    if (matched[i] && !letter) failures.append(asked[i].id, matched[i]->text);
  }
  const auto percent = [](int64_t part, int64_t of) {
    return of == 0 ? 0 : static_cast<double>(part) / static_cast<double>(of) * 100;
  };
  if (image_total > 0)
    result.score = percent(image_correct, image_total);
  else
    result.warnings.push_back("no answer belongs to a question with a picture, so that there is no headline");
  result.metrics.append("total", static_cast<int64_t>(asked.size()));
  result.metrics.append("correct", correct);
  result.metrics.append("accuracy", percent(correct, static_cast<int64_t>(asked.size())));
  result.metrics.append("image_total", image_total);
  result.metrics.append("image_correct", image_correct);
  result.metrics.append("image_accuracy", percent(image_correct, image_total));
  result.metrics.append("failed", failed);
  result.details.append("failed_outputs", std::move(failures));
  return result;
}

TaskQuestion question_of(const Json& json, const std::string& path, int64_t line) {
  constexpr std::string_view kImage = "<image>";
  TaskQuestion question;
  question.id = id_text(json, "id", path, line);
  if (const Json* image = json.find("image"); image && image->is_string()) question.image = image->as_string();
  const auto& turns = io::require(json, "conversations", Json::Kind::kArray, path, kCode).items();
  if (turns.empty()) throw Error(kCode, path + ":" + std::to_string(line), "conversations: expected turns, got none");
  const std::string asked = unicode::replaced(text_of(turns[0], "value", path), kImage, "");
  question.text = std::string(unicode::strip(asked)) + kLetterSuffix;
  question.prompt = (question.image.empty() ? "" : "<image>\n") + question.text;
  question.category = question.image.empty() ? "text" : "image";
  return question;
}

std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions&) {
  const std::string& path = data.at("questions");
  std::vector<TaskQuestion> questions;
  io::for_each_element(io::read_file(path, kCode), "", path, kCode,
                       [&](const Json& json, int64_t line) { questions.push_back(question_of(json, path, line)); });
  return questions;
}

std::vector<std::string> picture_places(const std::string& image) {
  return {"images/test/" + image, "test/" + image, image};
}

}  // namespace

Benchmark scienceqa() {
  return {
      "scienceqa",
      "accuracy over the questions with a picture, in percent",
      {{"splits", "pid_splits.json"}, {"problems", "problems*.json"}, {"questions", "llava_test_CQM-A.json", false}},
      score,
      {{"questions", "llava_test_CQM-A.json"}},
      questions_of,
      picture_places,
      1024};
}

}  // namespace vlmamba::tasks
