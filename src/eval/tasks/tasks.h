#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "vlmamba/eval/task.h"

/// The benchmarks, one file each, and what they share: reading their files and pairing questions with answers.
namespace vlmamba::tasks {

Benchmark vqav2();
Benchmark gqa();
Benchmark scienceqa();
Benchmark textvqa();
Benchmark pope();
Benchmark mme();
Benchmark mmbench();
Benchmark mmvet();
std::shared_ptr<Task> make_jsonl(const TaskConfig& config);

constexpr const char* kShortSuffix = "\nAnswer the question using a single word or phrase.";
constexpr const char* kLetterSuffix = "\nAnswer with the option's letter from the given choices directly.";

/// Reads LLaVA's question lines {question_id, image, text, category}; `more` reads what else stands on a line.
std::vector<TaskQuestion> read_llava_questions(
    const std::string& path, const std::function<void(const io::Json&, TaskQuestion&)>& more = nullptr);

/// A question that an answer may belong to.
struct Asked {
  std::string id;
  std::string text = {};  ///< part of the prompt, to notice answers to other questions; may be empty
  bool needed = true;     ///< does the benchmark score it?
};

/// The answers by question, null where there is none, and fills `result.counts`. Throws Error (data) for ids that are
/// unknown or come twice, for answers whose prompts ask something else, and for missing ones unless they are allowed.
std::vector<const Answer*> match_answers(const std::vector<Asked>& questions, const ScoreInput& input,
                                         ScoreResult& result);

/// Notes what an answer of the input was worth.
void give_credit(const Answer& answer, double value, const ScoreInput& input, ScoreResult& result);

/// Counts and, unless they may be missing, requires answers to all of `questions` that the benchmark scores.
void check_coverage(int64_t questions, int64_t answered, const std::vector<std::string>& missing,
                    const ScoreInput& input, ScoreResult& result);

/// Throws Error (data) unless the answers are of one of these forms.
void expect_form(const AnswerFile& answers, const std::vector<AnswerForm>& forms);

/// An id of a benchmark's file. Throws Error (data).
std::string id_text(const io::Json& object, std::string_view key, const std::string& path, int64_t line);
const std::string& text_of(const io::Json& object, std::string_view key, const std::string& path);

/// A mean that grows, as a share of 1.
class Mean {
 public:
  void add(double value) { sum_ += value, ++count_; }
  int64_t count() const { return count_; }
  double value() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  double percent() const { return count_ == 0 ? 0 : 100 * sum_ / static_cast<double>(count_); }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};
using Means = std::map<std::string, Mean>;

/// Adds `prefix`/NAME for each mean, in percent.
void append_percents(const std::string& prefix, const Means& means, io::Json& metrics);

}  // namespace vlmamba::tasks
