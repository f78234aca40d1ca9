#include "vlmamba/eval/evaluator.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

#include "vlmamba/core/log.h"
#include "vlmamba/data/example.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

using io::Json;

// The next question, round the list, that shows another picture: everybody gets a wrong one.
size_t another_picture(const std::vector<TaskQuestion>& questions, size_t index) {
  for (size_t offset = questions.size() / 2; offset < questions.size() + questions.size() / 2; ++offset) {
    const size_t other = (index + offset) % questions.size();
    if (questions[other].image != questions[index].image && !questions[other].image.empty()) return other;
  }
  return index;
}

double percent(int64_t right, int64_t of) {
  return of == 0 ? 0 : 100.0 * static_cast<double>(right) / static_cast<double>(of);
}

Json to_json(const TaskResult& result, const TaskConfig& task, const Json& provenance) {
  Json json = Json::object();
  json.set("task", result.task);
  json.set("kind", enum_name(task.kind));
  json.set("image", enum_name(task.image));
  json.set("score", result.score);
  json.set("num_questions", result.num_questions);
  Json& metrics = json.set("metrics", Json::object());
  metrics.set("exact_match", result.score);
  Json& categories = metrics.set("exact_match_by_category", Json::object());
  for (const auto& [category, score] : result.by_category) categories.set(category, score);
  json.set("provenance", provenance);
  return json;
}

}  // namespace

Evaluator::Evaluator(const Responder& responder, int64_t batch, std::string folder, std::string model_id,
                     Json provenance)
    : responder_(responder),
      batch_(batch),
      folder_(std::move(folder)),
      model_id_(std::move(model_id)),
      provenance_(std::move(provenance)) {}

std::vector<std::vector<float>> Evaluator::shown_pictures(const TaskConfig& task,
                                                          const std::vector<TaskQuestion>& questions,
                                                          size_t index) const {
  if (questions[index].image.empty()) return {};
  if (task.image == ShownImage::kBlank) return {responder_.blank_picture()};
  const size_t shown = task.image == ShownImage::kShuffled ? another_picture(questions, index) : index;
  return {responder_.read_picture(picture_path(task.image_root, questions[shown].image))};
}

Json Evaluator::answer_line(const TaskQuestion& question, const std::string& answer) const {
  Json line = Json::object();
  line.set("question_id", question.id);
  line.set("prompt", question.text);
  line.set("text", answer);
  line.set("answer_id", io::sha256(model_id_ + "\n" + question.id + "\n" + question.text).substr(0, 22));
  line.set("model_id", model_id_);
  line.set("metadata", Json::object());
  return line;
}

TaskResult Evaluator::run(const TaskConfig& task) const {
  const auto questions = read_questions(task);
  std::map<std::string, int64_t> right, asked;
  std::string lines;
  log::Progress progress("evaluate " + task.name, static_cast<int64_t>(questions.size()));
  const auto batch = static_cast<size_t>(batch_);
  for (size_t first = 0; first < questions.size(); first += batch) {
    const size_t end = std::min(questions.size(), first + batch);
    std::vector<Question> asking;
    for (size_t i = first; i < end; ++i)
      asking.push_back({questions[i].id, questions[i].text, shown_pictures(task, questions, i)});
    const auto answers = responder_.answer(asking, static_cast<int64_t>(first));
    for (size_t i = first; i < end; ++i) {
      lines += answer_line(questions[i], answers[i - first]).to_string() + "\n";
      ++asked[questions[i].category];
      right[questions[i].category] += exact_match(answers[i - first], questions[i].answer) ? 1 : 0;
    }
    progress.update(static_cast<int64_t>(end), "questions");
  }
  TaskResult result{task.name, 0, static_cast<int64_t>(questions.size()), {}};
  int64_t all_right = 0;
  for (const auto& [category, count] : asked) {
    result.by_category[category] = percent(right[category], count);
    all_right += right[category];
  }
  result.score = percent(all_right, result.num_questions);
  const std::string folder = folder_ + "/" + task.name;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw Error(ExitCode::kIo, folder, "expected to make the folder, got: " + failed.message());
  io::write_file_atomically(folder + "/answers.jsonl", lines);
  io::write_file_atomically(folder + "/results.json", to_json(result, task, provenance_).to_string(2) + "\n");
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
      if (const double* score = score_of(result)) std::snprintf(text, sizeof text, "%.1f", *score);
      cell(text, result.task.size() + 3);
    }
    table += "\n";
  };
  table += "  % exact" + std::string(first_column - 7, ' ');
  for (const auto& result : results) cell(result.task, result.task.size() + 3);
  table += "\n";
  for (const auto& category : categories)
    row(category, [&](const TaskResult& result) {
      const auto found = result.by_category.find(category);
      return found == result.by_category.end() ? nullptr : &found->second;
    });
  row("all", [](const TaskResult& result) { return &result.score; });
  return table;
}

}  // namespace vlmamba
