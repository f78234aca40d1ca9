#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/eval/task.h"
#include "vlmamba/infer/responder.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

/// What came out of a task, on the task's own scale; no score where only a judge or a server could give it.
struct TaskResult {
  std::string task;
  std::optional<double> score;
  int64_t num_questions = 0;
  std::map<std::string, double> by_category;
};

/// Asks a task's questions and writes FOLDER/TASK/answers.jsonl (LLaVA's fields), results.json, and where there is one
/// the file for the benchmark's server or judge.
class Evaluator {
 public:
  /// `provenance` goes into results.json as it is; `model_id` into every answer.
  Evaluator(int64_t batch, std::string folder, std::string model_id, io::Json provenance);

  /// Throws Error (data) before anything is asked if a picture is missing.
  TaskResult run(const TaskConfig& config, const Task& task, const Responder& responder) const;

 private:
  std::vector<std::string> ask(const TaskConfig& config, const std::vector<TaskQuestion>& questions,
                               const Responder& responder) const;
  io::Json answer_line(const TaskQuestion& question, const std::string& answer) const;
  std::string make_folder(const TaskConfig& config) const;
  void write(const TaskConfig& config, const std::string& name, const std::string& bytes) const;

  int64_t batch_;
  std::string folder_, model_id_;
  io::Json provenance_;
};

/// A table of categories by tasks, for the terminal; "all" is the last row.
std::string to_table(const std::vector<TaskResult>& results);

}  // namespace vlmamba
