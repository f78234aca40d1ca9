#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vlmamba/eval/task.h"
#include "vlmamba/infer/responder.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

/// What came out of a task. Shares in percent.
struct TaskResult {
  std::string task;
  double score = 0;
  int64_t num_questions = 0;
  std::map<std::string, double> by_category;
};

/// Asks a task's questions and writes FOLDER/TASK/answers.jsonl (LLaVA's fields) and results.json.
class Evaluator {
 public:
  /// `provenance` goes into results.json as it is; `model_id` into every answer. `responder` must outlive the
  /// evaluator.
  Evaluator(const Responder& responder, int64_t batch, std::string folder, std::string model_id, io::Json provenance);

  TaskResult run(const TaskConfig& task) const;

 private:
  std::vector<std::vector<float>> shown_pictures(const TaskConfig& task, const std::vector<TaskQuestion>& questions,
                                                 size_t index) const;
  io::Json answer_line(const TaskQuestion& question, const std::string& answer) const;

  const Responder& responder_;
  int64_t batch_;
  std::string folder_, model_id_;
  io::Json provenance_;
};

/// A table of categories by tasks, for the terminal; "all" is the last row.
std::string to_table(const std::vector<TaskResult>& results);

}  // namespace vlmamba
