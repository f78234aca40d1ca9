#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/eval/answer_file.h"
#include "vlmamba/eval/judge.h"
#include "vlmamba/eval/question.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

/// A file that a benchmark's folder must hold. `pattern` is a glob with braces, relative to the folder.
struct DataRole {
  std::string_view name, pattern;
  bool needed = true;  ///< else it may be absent; two matches are wrong in any case
};

/// Role to path, of those that were found.
using DataFiles = std::map<std::string, std::string, std::less<>>;

/// Everything that a score is computed from.
struct ScoreInput {
  DataFiles data;
  AnswerFile answers;
  std::map<std::string, Judgement> judgements;  ///< cached, may be empty
  bool allow_partial = false;
  Protocol protocol = Protocol::kLlava;
};

struct ScoreResult {
  std::optional<double> score;               ///< the headline; none where only a judge could give it
  io::Json metrics = io::Json::object();     ///< every other number; `/` between levels
  io::Json counts = io::Json::object();      ///< questions, answered, missing, …
  std::string judge;                         ///< who graded; "rules" where no judge was asked
  std::vector<JudgeRequest> judge_requests;  ///< what remains to be asked
  JudgeCall judge_call;                      ///< how
  std::vector<std::string> warnings;
  std::vector<std::optional<double>>
      credits;  ///< 0 to 1 of each answer, where a question is scored on its own; or empty
  std::map<std::string, double> by_category;  ///< the headline for kinds of questions, for tables
  io::Json details = io::Json::object();      ///< what else is worth keeping, e.g. answers that could not be parsed
};

/// A file that the benchmark's server or evaluator takes.
struct Submission {
  std::string name, bytes;
};

/// One of the benchmarks: where its data lies, how it is asked, and how answers are scored, exactly as its official
/// script does.
struct Benchmark {
  std::string_view name;
  std::string_view headline;  ///< what the score is, in words
  std::vector<DataRole> roles;
  ScoreResult (*score)(const ScoreInput& input);
  std::vector<DataRole> question_roles;  ///< what asking needs, which may be less or other than scoring
  std::vector<TaskQuestion> (*questions)(const DataFiles& data, const AskOptions& options);
  /// Where a picture may lie below the folder, in order.
  std::vector<std::string> (*picture_places)(const std::string& image);
  int64_t max_new_tokens = 128;
  std::optional<Submission> (*submission)(const DataFiles& data, const AnswerFile& answers) = nullptr;
};

/// All of them, by name.
const std::vector<Benchmark>& benchmarks();

/// The one of this name. Throws Error (usage) that lists them.
const Benchmark& find_benchmark(std::string_view name);

/// The files of a folder by role. Throws Error (data) naming role, pattern and what was found where a role has not
/// exactly one match.
DataFiles find_data(const Benchmark& benchmark, const std::string& folder);
DataFiles find_data(std::string_view name, const std::vector<DataRole>& roles, const std::string& folder);

/// results.json: task, score, metrics, counts, judge, and the given provenance.
io::Json to_json(const Benchmark& benchmark, const ScoreResult& result, const ScoreInput& input);

}  // namespace vlmamba
