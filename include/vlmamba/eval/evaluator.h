#pragma once

#include <cstdint>
#include <functional>
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

/// One of several processes that share an evaluation.
struct Shard {
  int64_t rank = 0, size = 1;
};

/// Asks a task's questions and writes FOLDER/TASK/answers.jsonl (LLaVA's fields), results.json, and where there is one
/// the file for the benchmark's server or judge. Questions about the same picture are asked one behind the other.
/// Answers are kept as they come: a task that was interrupted goes on where it stopped, and one that is complete is
/// only scored. Any number of processes with the same folder share the questions; the last one puts the answers
/// together, which are, byte for byte, those of a single process.
class Evaluator {
 public:
  struct Options {
    int64_t batch = 32;
    std::string folder;
    std::string model_id;  ///< goes into every answer
    io::Json provenance;   ///< goes into results.json as it is
    Shard shard = {};
    bool save_inputs = false;  ///< writes TASK/inputs/: for every question its prompt and ids, and what is shown
    std::function<bool()> stop = [] { return false; };  ///< asked between steps
  };
  explicit Evaluator(Options options) : options_(std::move(options)) {}

  /// `evaluation` names all that answers depend on beside the questions: weights, prompt, sampling. None where it was
  /// stopped, or where other processes still ask. Throws Error (data) before anything is asked if a picture is missing.
  std::optional<TaskResult> run(const TaskConfig& config, const Task& task, const Responder& responder,
                                const std::string& evaluation) const;

 private:
  class Asking;

  io::Json answer_line(const TaskQuestion& question, const std::string& answer) const;

  Options options_;
};

/// A table of categories by tasks, for the terminal; "all" is the last row.
std::string to_table(const std::vector<TaskResult>& results);

}  // namespace vlmamba
