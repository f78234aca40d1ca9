#include "vlmamba/eval/answer_file.h"

#include <algorithm>
#include <filesystem>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr ExitCode kCode = ExitCode::kData;
constexpr const char* kForms =
    "answers: LLaVA's lines {\"question_id\", \"text\"}, a result list [{\"question_id\", \"answer\"}] or "
    "[{\"questionId\", \"prediction\"}], or an object from id to text or to grades";

[[noreturn]] void refuse(const std::string& path, int64_t line, const std::string& message) {
  throw Error(kCode, path + ":" + std::to_string(line), message);
}

std::string shown(const Json& json) { return json.to_string().substr(0, 80); }

std::string id_of(const Json& object, std::string_view key, const std::string& path, int64_t line) {
  const Json* id = object.find(key);
  if (id && id->is_string()) return id->as_string();
  if (id && id->is_integer()) return std::to_string(id->as_integer());
  refuse(path, line,
         std::string(key) + ": expected a string or an integer, got " + (id ? shown(*id) : std::string("none")));
}

Answer answer_of(const Json& object, std::string_view id_key, std::string_view text_key, const std::string& path,
                 int64_t line) {
  Answer answer{id_of(object, id_key, path, line),
                io::require(object, text_key, Json::Kind::kString, path, kCode).as_string(),
                {},
                std::to_string(line)};
  if (const Json* prompt = object.find("prompt"); prompt && prompt->is_string()) answer.prompt = prompt->as_string();
  return answer;
}

void expect_object(const Json& value, const std::string& path, int64_t line) {
  if (!value.is_object()) refuse(path, line, "expected an object, got " + std::string(io::kind_name(value.kind())));
}

void add_line(const Json& value, int64_t line, AnswerFile& file) {
  expect_object(value, file.path, line);
  file.answers.push_back(answer_of(value, "question_id", "text", file.path, line));
  if (const Json* model = value.find("model_id"); file.model_id.empty() && model && model->is_string())
    file.model_id = model->as_string();
}

void add_result(const Json& value, int64_t line, AnswerFile& file) {
  expect_object(value, file.path, line);
  if (value.find("questionId"))
    file.answers.push_back(answer_of(value, "questionId", "prediction", file.path, line));
  else if (value.find("answer") == nullptr && value.find("text"))
    add_line(value, line, file);
  else
    file.answers.push_back(answer_of(value, "question_id", "answer", file.path, line));
}

void add_grade(const std::string& id, const Json& value, int64_t line, AnswerFile& file) {
  Grade grade{id, {}, {}, line};
  for (const Json& score : io::require(value, "score", Json::Kind::kArray, file.path, kCode).items()) {
    if (!score.is_number() || score.as_number() < 0 || score.as_number() > 1)
      refuse(file.path, score.line, id + ": expected scores between 0 and 1, got " + shown(score));
    grade.scores.push_back(score.as_number());
  }
  if (const Json* models = value.find("model"); models && models->is_array())
    for (const Json& model : models->items())
      if (model.is_string()) grade.judges.push_back(model.as_string());
  file.grades.push_back(std::move(grade));
}

void add_member(const std::string& id, const Json& value, int64_t line, AnswerFile& file) {
  if (value.is_object() && value.find("score")) {
    file.form = AnswerForm::kGrades;
    add_grade(id, value, line, file);
  } else if (value.is_string()) {
    file.answers.push_back({id, value.as_string(), {}, std::to_string(line)});
  } else {
    refuse(file.path, line, "\"" + id + "\": expected a text or grades, got " + shown(value));
  }
  if (!file.answers.empty() && !file.grades.empty()) refuse(file.path, line, "expected texts or grades, got both");
}

// The first line is an answer line, or means to be one.
bool looks_like_lines(std::string_view text) {
  const auto start = text.find_first_not_of(" \t\r\n");
  const auto line = text.substr(start, text.find('\n', start) - start);
  return line.find("\"question_id\"") != std::string_view::npos || text.find("\n{", start) != std::string_view::npos;
}

std::vector<std::string> columns_of(const std::string& line) {
  std::vector<std::string> columns{""};
  for (const char c : line)
    if (c == '\t')
      columns.emplace_back();
    else
      columns.back() += c;
  return columns;
}

void add_columns(const fs::path& path, AnswerFile& file) {
  const std::string text = io::read_file(path.string(), kCode);
  int64_t number = 1;
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    at = end + 1;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const auto columns = columns_of(line);
    if (columns.size() != 4)
      refuse(path.string(), number,
             "expected 4 columns (image, question, truth, answer), got " + std::to_string(columns.size()));
    file.answers.push_back({path.stem().string() + "/" + columns[0], columns[3], columns[1],
                            path.filename().string() + ":" + std::to_string(number)});
  }
}

AnswerFile read_folder(const std::string& path) {
  AnswerFile file{path, AnswerForm::kColumns, {}, {}, {}};
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& each : paths) add_columns(each, file);
  if (file.answers.empty()) throw Error(kCode, path, "expected " + std::string(kForms) + "; got a folder");
  return file;
}

}  // namespace

AnswerFile read_answers(const std::string& path) {
  if (fs::is_directory(path)) return read_folder(path);
  const std::string bytes = io::read_file(path, kCode);
  const auto text = io::without_mark(bytes);
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) throw Error(kCode, path, "expected " + std::string(kForms) + "; got nothing");
  AnswerFile file{path, AnswerForm::kLines, {}, {}, {}};
  if (text[first] == '[') {
    file.form = AnswerForm::kResults;
    io::for_each_element(text, "", path, kCode, [&](const Json& v, int64_t line) { add_result(v, line, file); });
  } else if (text[first] == '{' && !looks_like_lines(text)) {
    file.form = AnswerForm::kMap;
    io::for_each_member(text, path, kCode,
                        [&](const std::string& key, const Json& v, int64_t line) { add_member(key, v, line, file); });
  } else if (text[first] == '{') {
    io::for_each_line(text, path, kCode, [&](const Json& v, int64_t line) { add_line(v, line, file); });
  } else {
    throw Error(kCode, path + ":1",
                "expected " + std::string(kForms) + "; got \"" + std::string(text.substr(first, 40)) + "\"");
  }
  if (file.answers.empty() && file.grades.empty()) throw Error(kCode, path, "expected answers, got none");
  return file;
}

std::string place_of(const AnswerFile& file, const Answer& answer) {
  return file.path + (file.form == AnswerForm::kColumns ? "/" : ":") + answer.where;
}

}  // namespace vlmamba
