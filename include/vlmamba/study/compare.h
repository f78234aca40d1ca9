#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/study/answered_task.h"
#include "vlmamba/study/config_difference.h"
#include "vlmamba/study/statistics.h"

namespace vlmamba::study {

/// A question that one run got right and the other wrong.
struct Disagreement {
  std::string id, question, truth, left, right;
  bool left_is_right = false;
};

/// Two runs on one task.
struct TaskComparison {
  std::string task;
  std::optional<double> left_score, right_score;  ///< as results.json has them
  int64_t questions = 0, both = 0, neither = 0;
  std::vector<Disagreement> disagreements;
  Interval interval;  ///< of right - left in percent of the credit of single questions
  std::string note;   ///< why questions could not be compared; else empty
};

struct Comparison {
  std::vector<ConfigDifference> config, data, code;
  std::vector<TaskComparison> tasks;  ///< those that both were asked
};

struct CompareOptions {
  int64_t draws = 10000;
  uint64_t seed = 1;
  double level = 0.95;
};

/// What sets two evaluated runs apart: first what went in, then what came out. The interval is a paired bootstrap over
/// questions: it tells what another draw of questions could change, not what another seed of training could.
Comparison compare_runs(const RunOutcome& left, const RunOutcome& right, const CompareOptions& options,
                        const std::map<std::string, TaskFactory>& extensions);

/// For the terminal, with up to `examples` disagreements of each task.
std::string to_text(const Comparison& comparison, const RunOutcome& left, const RunOutcome& right, int64_t examples);

}  // namespace vlmamba::study
