#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/infer/sampling.h"

namespace vlmamba {

enum class TaskKind { kVqaExact };
constexpr auto enum_names(TaskKind) { return std::array{EnumName<TaskKind>{TaskKind::kVqaExact, "vqa_exact"}}; }

enum class ShownImage { kReal, kBlank, kShuffled };
constexpr auto enum_names(ShownImage) {
  return std::array{EnumName<ShownImage>{ShownImage::kReal, "real"}, EnumName<ShownImage>{ShownImage::kBlank, "blank"},
                    EnumName<ShownImage>{ShownImage::kShuffled, "shuffled"}};
}

/// One task. `vqa_exact`: questions.jsonl as LLaVA's, a line each {question_id, image, text, category, answer}; the
/// score is the share of answers that equal `answer`, both in lower case and without surrounding space, in percent.
struct TaskConfig {
  std::string name;
  TaskKind kind = TaskKind::kVqaExact;
  std::string questions;
  std::string image_root;
  ShownImage image = ShownImage::kReal;
  int64_t limit = 0;

  template <typename F>
  void visit(F& f) {
    f("name", name, "names the task's folder and column");
    f("kind", kind, "what is asked and how it is scored");
    f("questions", questions, "file of questions, a JSON object a line");
    f("image_root", image_root, "folder that the questions' pictures lie below");
    f("image", image, "what is shown: the real picture; as a control a blank one, or that of another question");
    f("limit", limit, "asks only so many questions, from the first; 0: all", Range{0});
  }
};

struct EvalConfig {
  int64_t batch = 32;
  SamplingConfig sampling;
  std::vector<TaskConfig> tasks;

  template <typename F>
  void visit(F& f) {
    f("batch", batch, "questions that are answered together", Range{1});
    f("sampling", sampling, "how answers are generated");
    f("tasks", tasks, "what is evaluated");
  }
};

/// A question of a task with its true answer.
struct TaskQuestion {
  std::string id, image, text, category, answer;
};

/// Reads a task's questions. Throws Error (data) naming file and line.
std::vector<TaskQuestion> read_questions(const TaskConfig& task);

/// Do two answers count as equal?
bool exact_match(const std::string& answer, const std::string& truth);

}  // namespace vlmamba
