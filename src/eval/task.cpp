#include "vlmamba/eval/task.h"

#include <algorithm>
#include <filesystem>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/core/text.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kShortAnswer = 16;  // lmms-eval's, where LLaVA allows 128

// A benchmark of the table, asked and scored from its folder.
class BenchmarkTask : public Task {
 public:
  BenchmarkTask(const Benchmark& benchmark, const TaskConfig& config) : benchmark_(benchmark), config_(config) {}

  std::vector<TaskQuestion> questions() const override {
    const auto data = find_data(benchmark_.name, benchmark_.question_roles, config_.data);
    auto questions = benchmark_.questions(data, {config_.protocol, config_.ocr_tokens});
    for (auto& question : questions)
      if (!question.image.empty()) question.image = place_of(question.image);
    return questions;
  }

  ScoreResult score(const std::vector<TaskQuestion>& asked, const AnswerFile& answers) const override {
    ScoreInput input{{}, answers, {}, config_.limit > 0, config_.protocol};
    try {
      input.data = find_data(benchmark_, config_.data);
    } catch (const Error& error) {  // test splits have no answers
      ScoreResult unscored;
      unscored.counts.set("questions", static_cast<int64_t>(asked.size()));
      unscored.warnings.push_back(std::string("asked, but not scored: ") + error.what());
      return unscored;
    }
    return benchmark_.score(input);
  }

  std::optional<int64_t> max_new_tokens() const override {
    const bool cut = config_.protocol == Protocol::kLmmsEval && benchmark_.max_new_tokens == 128;
    return cut ? kShortAnswer : benchmark_.max_new_tokens;
  }

  std::optional<Submission> submission(const AnswerFile& answers) const override {
    if (benchmark_.submission == nullptr) return std::nullopt;
    return benchmark_.submission(find_data(benchmark_.name, benchmark_.question_roles, config_.data), answers);
  }

 private:
  std::string place_of(const std::string& image) const {
    if (!config_.image_root.empty()) return (fs::path(config_.image_root) / image).string();
    const auto places = benchmark_.picture_places(image);
    for (const auto& place : places)
      if (fs::exists(fs::path(config_.data) / place)) return (fs::path(config_.data) / place).string();
    return (fs::path(config_.data) / places.front()).string();
  }

  const Benchmark& benchmark_;
  TaskConfig config_;
};

}  // namespace

std::shared_ptr<Task> make_task(const TaskConfig& config, const std::map<std::string, TaskFactory>& extensions) {
  if (const auto own = extensions.find(config.kind); own != extensions.end()) return own->second(config);
  if (config.kind == "jsonl") return tasks::make_jsonl(config);
  std::string kinds = "jsonl";
  for (const auto& benchmark : benchmarks()) {
    if (benchmark.name == config.kind) return std::make_shared<BenchmarkTask>(benchmark, config);
    kinds += ", " + std::string(benchmark.name);
  }
  for (const auto& [name, factory] : extensions) kinds += ", " + name;
  throw Error(ExitCode::kUsage, "eval.tasks." + config.name + ".kind",
              "expected one of " + kinds + ", got \"" + config.kind + "\"");
}

bool exact_match(const std::string& answer, const std::string& truth) {
  const auto normalised = [](const std::string& text) {
    std::string result = stripped(text);
    std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return std::tolower(c); });
    return result;
  };
  return normalised(answer) == normalised(truth);
}

}  // namespace vlmamba
