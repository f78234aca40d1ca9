#include "vlmamba/eval/evaluator.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <set>

#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using io::Json;

bool has_picture(const TaskQuestion& question) { return !question.image.empty() || !question.picture.empty(); }

// The next question, round the list, that shows another picture: everybody gets a wrong one.
size_t another_picture(const std::vector<TaskQuestion>& questions, size_t index) {
  const auto& own = questions[index];
  for (size_t offset = questions.size() / 2; offset < questions.size() + questions.size() / 2; ++offset) {
    const size_t other = (index + offset) % questions.size();
    const bool differs = questions[other].image != own.image || questions[other].picture != own.picture;
    if (differs && has_picture(questions[other])) return other;
  }
  return index;
}

std::vector<std::vector<float>> shown_pictures(const TaskConfig& config, const std::vector<TaskQuestion>& questions,
                                               size_t index, const Responder& responder) {
  if (!has_picture(questions[index])) return {};
  if (config.image == ShownImage::kBlank) return {responder.blank_picture()};
  const auto& shown = questions[config.image == ShownImage::kShuffled ? another_picture(questions, index) : index];
  if (shown.picture.empty()) return {responder.read_picture(shown.image)};
  return {responder.process(io::decode_image(shown.picture, config.name + ", question " + shown.id))};
}

void expect_pictures(const TaskConfig& config, const std::vector<TaskQuestion>& questions) {
  int64_t missing = 0;
  const TaskQuestion* first = nullptr;
  for (const auto& question : questions) {
    if (question.image.empty() || fs::is_regular_file(question.image)) continue;
    if (missing++ == 0) first = &question;
  }
  if (first && config.image != ShownImage::kBlank)
    throw Error(ExitCode::kData, first->image,
                "expected the picture of question " + first->id + ", got no such file; " + std::to_string(missing) +
                    " of " + std::to_string(questions.size()) + " questions have no picture");
}

Json to_json(const TaskConfig& config, const TaskResult& result, const ScoreResult& scored, double seconds) {
  Json json = Json::object();
  json.append("task", config.name);
  json.append("kind", config.kind);
  json.append("protocol", enum_name(config.protocol));
  json.append("image", enum_name(config.image));
  json.append("score", result.score ? Json(*result.score) : Json());
  json.append("num_questions", result.num_questions);
  if (!scored.judge.empty()) json.append("judge", scored.judge);
  json.append("metrics", scored.metrics);
  json.append("counts", scored.counts);
  Json& warnings = json.append("warnings", Json::array());
  for (const auto& warning : scored.warnings) warnings.push(warning);
  json.append("seconds", seconds);
  return json;
}

}  // namespace

Evaluator::Evaluator(int64_t batch, std::string folder, std::string model_id, Json provenance)
    : batch_(batch), folder_(std::move(folder)), model_id_(std::move(model_id)), provenance_(std::move(provenance)) {}

Json Evaluator::answer_line(const TaskQuestion& question, const std::string& answer) const {
  Json line = Json::object();
  line.append("question_id",
              question.integer_id ? Json(static_cast<int64_t>(std::stoll(question.id))) : Json(question.id));
  line.append("prompt", question.prompt);
  line.append("text", answer);
  for (const auto& [key, value] : question.extra.members()) line.append(key, value);
  line.append("answer_id", io::sha256(model_id_ + "\n" + question.id + "\n" + question.prompt).substr(0, 22));
  line.append("model_id", model_id_);
  line.append("metadata", Json::object());
  return line;
}

std::vector<std::string> Evaluator::ask(const TaskConfig& config, const std::vector<TaskQuestion>& questions,
                                        const Responder& responder) const {
  std::vector<std::string> answers;
  log::Progress progress("evaluate " + config.name, static_cast<int64_t>(questions.size()));
  const auto batch = static_cast<size_t>(batch_);
  for (size_t first = 0; first < questions.size(); first += batch) {
    const size_t end = std::min(questions.size(), first + batch);
    std::vector<Question> asking;
    for (size_t i = first; i < end; ++i)
      asking.push_back({questions[i].id, questions[i].text, shown_pictures(config, questions, i, responder)});
    for (auto& answer : responder.answer(asking, static_cast<int64_t>(first))) answers.push_back(std::move(answer));
    progress.update(static_cast<int64_t>(end), "questions");
  }
  return answers;
}

std::string Evaluator::make_folder(const TaskConfig& config) const {
  const std::string folder = folder_ + "/" + config.name;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw Error(ExitCode::kIo, folder, "expected to make the folder, got: " + failed.message());
  return folder;
}

void Evaluator::write(const TaskConfig& config, const std::string& name, const std::string& bytes) const {
  io::write_file_atomically(make_folder(config) + "/" + name, bytes);
}

TaskResult Evaluator::run(const TaskConfig& config, const Task& task, const Responder& responder) const {
  const auto start = std::chrono::steady_clock::now();
  auto questions = task.questions();
  if (config.limit > 0 && static_cast<size_t>(config.limit) < questions.size())
    questions.resize(static_cast<size_t>(config.limit));
  expect_pictures(config, questions);
  make_folder(config);  // before anything is asked: answers that cannot be kept are lost
  const auto texts = ask(config, questions, responder);
  AnswerFile answers{folder_ + "/" + config.name + "/answers.jsonl", AnswerForm::kLines, model_id_, {}, {}};
  std::string lines;
  for (size_t i = 0; i < questions.size(); ++i) {
    lines += answer_line(questions[i], texts[i]).to_string() + "\n";
    answers.answers.push_back({questions[i].id, texts[i], questions[i].prompt, std::to_string(i + 1)});
  }
  write(config, "answers.jsonl", lines);
  if (const auto submission = task.submission(answers)) write(config, submission->name, submission->bytes);
  const ScoreResult scored = task.score(questions, answers);
  for (const auto& warning : scored.warnings) log::warn(config.name + ": " + warning);
  if (!scored.judge_requests.empty())
    write(config, "judge_requests.jsonl", to_batch(scored.judge_requests, scored.judge_call));
  TaskResult result{config.name, scored.score, static_cast<int64_t>(questions.size()), scored.by_category};
  Json json =
      to_json(config, result, scored, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  json.append("provenance", provenance_);
  write(config, "results.json", json.to_string(2) + "\n");
  return result;
}

std::string to_table(const std::vector<TaskResult>& results) {
  std::set<std::string> categories;
  size_t first_column = 10;
  for (const auto& result : results)
    for (const auto& [category, score] : result.by_category) {
      categories.insert(category);
      first_column = std::max(first_column, category.size());
    }
  std::string table;
  const auto cell = [&](const std::string& text, size_t width) {
    table += std::string(width - std::min(width, text.size()), ' ') + text;
  };
  const auto row = [&](const std::string& name, const auto& score_of) {
    table += "  " + name + std::string(first_column - name.size(), ' ');
    for (const auto& result : results) {
      char text[16] = "-";
      if (const std::optional<double> score = score_of(result)) std::snprintf(text, sizeof text, "%.1f", *score);
      cell(text, result.task.size() + 3);
    }
    table += "\n";
  };
  table += "  score" + std::string(first_column - 5, ' ');
  for (const auto& result : results) cell(result.task, result.task.size() + 3);
  table += "\n";
  for (const auto& category : categories)
    row(category, [&](const TaskResult& result) -> std::optional<double> {
      const auto found = result.by_category.find(category);
      return found == result.by_category.end() ? std::nullopt : std::optional(found->second);
    });
  row("all", [](const TaskResult& result) { return result.score; });
  return table;
}

}  // namespace vlmamba
