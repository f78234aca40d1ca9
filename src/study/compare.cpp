#include "vlmamba/study/compare.h"

#include <algorithm>

#include "src/study/markup.h"

namespace vlmamba::study {
namespace {

using io::Json;

constexpr double kRight = 0.5;  // credit from which an answer counts as right

bool is_about_data(const std::string& key) {
  return key.find(".data.") != std::string::npos || key.starts_with("eval.") || key == "tokenizer";
}

// Of the first task: all tasks of an evaluation have the same.
std::vector<ConfigDifference> code_differences(const RunOutcome& left, const RunOutcome& right) {
  std::vector<ConfigDifference> found;
  if (left.tasks.empty() || right.tasks.empty()) return found;
  for (const char* key : {"vlmamba", "libtorch", "checkpoint_sha256"}) {
    const Json* a = left.tasks[0].provenance.find(key);
    const Json* b = right.tasks[0].provenance.find(key);
    const std::string l = a ? a->to_string() : "", r = b ? b->to_string() : "";
    if (l != r) found.push_back({key, l, r});
  }
  return found;
}

// The questions that both were asked, in the left run's order, as (left, right) indices.
std::vector<std::pair<size_t, size_t>> common_questions(const AnsweredTask& left, const AnsweredTask& right) {
  std::multimap<std::string, size_t> by_id;
  for (size_t i = 0; i < right.questions.size(); ++i) by_id.emplace(right.questions[i].id, i);
  std::vector<std::pair<size_t, size_t>> common;
  for (size_t i = 0; i < left.questions.size(); ++i) {
    const auto& question = left.questions[i];
    const auto [first, last] = by_id.equal_range(question.id);
    const auto same = std::find_if(
        first, last, [&](const auto& entry) { return right.questions[entry.second].text == question.text; });
    if (same == last) continue;
    common.emplace_back(i, same->second);
    by_id.erase(same);
  }
  return common;
}

void compare_answers(const AnsweredTask& left, const AnsweredTask& right, const CompareOptions& options,
                     TaskComparison& result) {
  if (left.credits.empty() || right.credits.empty()) {
    result.note = "the task does not score single questions";
    return;
  }
  std::vector<double> lefts, rights;
  for (const auto& [l, r] : common_questions(left, right)) {
    if (!left.credits[l] || !right.credits[r]) continue;
    const double a = *left.credits[l], b = *right.credits[r];
    lefts.push_back(100 * a);
    rights.push_back(100 * b);
    const bool a_right = a >= kRight, b_right = b >= kRight;
    result.both += a_right && b_right ? 1 : 0;
    result.neither += !a_right && !b_right ? 1 : 0;
    if (a_right == b_right) continue;
    const auto& question = left.questions[l];
    result.disagreements.push_back({question.id, question.text, question.truths.empty() ? "" : question.truths[0],
                                    left.answers[l], right.answers[r], a_right});
  }
  result.questions = static_cast<int64_t>(lefts.size());
  if (lefts.empty()) result.note = "no question is common to both";
  result.interval = paired_bootstrap(lefts, rights, options.draws, options.seed, options.level);
}

std::string on_one_line(const std::string& text) {
  std::string line = text;
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

std::string differences_text(const std::string& title, const std::vector<ConfigDifference>& differences) {
  std::string text = title + (differences.empty() ? ": no difference\n" : "\n");
  for (const auto& one : differences)
    text += "  " + one.key + ": " + (one.left.empty() ? "–" : one.left) + " | " +
            (one.right.empty() ? "–" : one.right) + "\n";
  return text;
}

std::string task_text(const TaskComparison& task, int64_t examples) {
  const auto score = [](const std::optional<double>& value) { return value ? decimals(*value, 2) : "–"; };
  std::string text = "\n" + task.task + ": score " + score(task.left_score) + " | " + score(task.right_score) + "\n";
  if (!task.note.empty()) return text + "  questions not compared: " + task.note + "\n";
  const auto signed_text = [](double value) { return std::string(value > 0 ? "+" : "").append(decimals(value, 2)); };
  text += "  B - A in percent right: " + signed_text(task.interval.difference) + ", 95 % interval " +
          signed_text(task.interval.low) + " to " + signed_text(task.interval.high) + " over " +
          std::to_string(task.questions) + " questions\n";
  const auto a_only = std::count_if(task.disagreements.begin(), task.disagreements.end(),
                                    [](const Disagreement& one) { return one.left_is_right; });
  text += "  both right " + std::to_string(task.both) + ", both wrong " + std::to_string(task.neither) +
          ", only A right " + std::to_string(a_only) + ", only B right " +
          std::to_string(static_cast<int64_t>(task.disagreements.size()) - a_only) + "\n";
  for (const bool left : {true, false}) {
    int64_t shown = 0;
    for (const auto& one : task.disagreements) {
      if (one.left_is_right != left || shown == examples) continue;
      if (shown++ == 0) text += left ? "  only A right:\n" : "  only B right:\n";
      text += "    " + one.id + "  " + on_one_line(one.question) + (one.truth.empty() ? "" : "  [" + one.truth + "]") +
              "  A: " + on_one_line(one.left) + "  B: " + on_one_line(one.right) + "\n";
    }
  }
  return text;
}

}  // namespace

Comparison compare_runs(const RunOutcome& left, const RunOutcome& right, const CompareOptions& options,
                        const std::map<std::string, TaskFactory>& extensions) {
  Comparison comparison;
  for (auto& difference : config_differences(left.config, right.config)) {
    if (difference.key == "output_dir") continue;
    auto& list = is_about_data(difference.key) ? comparison.data : comparison.config;
    list.push_back(std::move(difference));
  }
  comparison.code = code_differences(left, right);
  for (const auto& a : left.tasks) {
    const auto b = std::find_if(right.tasks.begin(), right.tasks.end(),
                                [&](const TaskOutcome& task) { return task.task == a.task; });
    if (b == right.tasks.end()) continue;
    TaskComparison task;
    task.task = a.task;
    task.left_score = a.score;
    task.right_score = b->score;
    try {
      compare_answers(read_answered(a, extensions), read_answered(*b, extensions), options, task);
    } catch (const Error& error) {
      task.note = error.what();
    }
    comparison.tasks.push_back(std::move(task));
  }
  return comparison;
}

std::string to_text(const Comparison& comparison, const RunOutcome& left, const RunOutcome& right, int64_t examples) {
  std::string text = "A  " + left.folder + "\nB  " + right.folder + "\n\n";
  text += differences_text("config", comparison.config);
  text += differences_text("data and evaluation", comparison.data);
  text += differences_text("program and weights", comparison.code);
  for (const auto& task : comparison.tasks) text += task_text(task, examples);
  if (comparison.tasks.empty()) text += "\nno task was asked of both\n";
  return text;
}

}  // namespace vlmamba::study
