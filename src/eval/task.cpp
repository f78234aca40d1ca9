#include "vlmamba/eval/task.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "vlmamba/core/text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

using io::Json;

std::string normalised(const std::string& text) {
  std::string result = stripped(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

}  // namespace

std::vector<TaskQuestion> read_questions(const TaskConfig& task) {
  std::istringstream lines(io::read_file(task.questions, ExitCode::kData));
  std::vector<TaskQuestion> questions;
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string where = task.questions + ":" + std::to_string(++number);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (task.limit > 0 && static_cast<int64_t>(questions.size()) == task.limit) break;
    const Json json = io::parse_json(line, where, ExitCode::kData);
    const auto string = [&](const char* key) {
      return io::require(json, key, Json::Kind::kString, where, ExitCode::kData).as_string();
    };
    if (!json.is_object())
      throw Error(ExitCode::kData, where, "expected an object, got " + std::string(io::kind_name(json.kind())));
    const Json* id = json.find("question_id");
    if (id == nullptr || (!id->is_string() && !id->is_integer()))
      throw Error(ExitCode::kData, where,
                  "question_id: expected a string or an integer, got " + (id ? id->to_string() : "none"));
    const Json* category = json.find("category");
    const Json* image = json.find("image");
    questions.push_back({id->is_string() ? id->as_string() : id->to_string(),
                         image && image->is_string() ? image->as_string() : "", string("text"),
                         category && category->is_string() ? category->as_string() : "all", string("answer")});
  }
  if (questions.empty()) throw Error(ExitCode::kData, task.questions, "expected questions, got none");
  return questions;
}

bool exact_match(const std::string& answer, const std::string& truth) {
  return normalised(answer) == normalised(truth);
}

}  // namespace vlmamba
