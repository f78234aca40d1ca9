#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/eval/task.h"
#include "vlmamba/study/outcomes.h"

namespace vlmamba::study {

/// A task with what a run answered, question by question.
struct AnsweredTask {
  TaskConfig config;
  std::vector<TaskQuestion> questions;
  std::vector<std::string> answers;
  std::vector<std::optional<double>> credits;  ///< 0 to 1; empty where the task does not score single questions
};

/// Reads the answers that an evaluation kept, and the task's questions, from where they were when it was asked. Throws
/// Error (data) if they are no longer there, or do not belong together.
AnsweredTask read_answered(const TaskOutcome& outcome, const std::map<std::string, TaskFactory>& extensions);

}  // namespace vlmamba::study
