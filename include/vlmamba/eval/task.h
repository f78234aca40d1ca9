#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/eval/benchmark.h"
#include "vlmamba/eval/question.h"

namespace vlmamba {

enum class ShownImage { kReal, kBlank, kShuffled };
constexpr auto enum_names(ShownImage) {
  return std::array{EnumName<ShownImage>{ShownImage::kReal, "real"}, EnumName<ShownImage>{ShownImage::kBlank, "blank"},
                    EnumName<ShownImage>{ShownImage::kShuffled, "shuffled"}};
}

/// How the kind `jsonl` scores.
enum class JsonlMetric { kExact, kVqa, kYesNo, kChoice };
constexpr auto enum_names(JsonlMetric) {
  return std::array{
      EnumName<JsonlMetric>{JsonlMetric::kExact, "exact"}, EnumName<JsonlMetric>{JsonlMetric::kVqa, "vqa"},
      EnumName<JsonlMetric>{JsonlMetric::kYesNo, "yes_no"}, EnumName<JsonlMetric>{JsonlMetric::kChoice, "choice"}};
}

/// One task of an evaluation. docs/evaluation.md tells what each kind reads.
struct TaskConfig {
  std::string name;
  std::string kind = "jsonl";
  std::string data;
  std::string questions;
  std::string image_root;
  JsonlMetric metric = JsonlMetric::kExact;
  Protocol protocol = Protocol::kLlava;
  OcrTokens ocr_tokens = OcrTokens::kQuestionFirst;
  ShownImage image = ShownImage::kReal;
  std::optional<int64_t> max_new_tokens;
  int64_t limit = 0;
  io::Json options = io::Json::object();

  template <typename F>
  void visit(F& f) {
    f("name", name, "names the task's folder and column");
    f("kind", kind, "jsonl, vqav2, gqa, scienceqa, textvqa, pope, mme, mmbench, mmvet, or a task of your own program");
    f("data", data, "folder of the benchmark's files under their official names");
    f("questions", questions, "jsonl: file of questions with answers, a JSON object a line");
    f("image_root", image_root, "folder that the questions' pictures lie below; empty: where the benchmark has them");
    f("metric", metric, "jsonl: how an answer is compared");
    f("protocol", protocol, "whose prompts, lengths and rules are followed");
    f("ocr_tokens", ocr_tokens, "textvqa: where the prompt names the words that OCR read");
    f("image", image, "what is shown: the real picture; as a control a blank one, or that of another question");
    f("max_new_tokens", max_new_tokens,
      "tokens after which an answer is cut; null: the benchmark's, for jsonl sampling's", Range{1});
    f("limit", limit, "asks only so many questions, from the first; 0: all", Range{0});
    f("options", options, "of a task of your own program, which reads them with io::from_json");
  }
};

/// What is asked and how it is scored. Everything else (pictures, batches, files) is the evaluator's.
class Task {
 public:
  virtual ~Task() = default;

  /// All questions, in their order. Throws Error (data).
  virtual std::vector<TaskQuestion> questions() const = 0;
  /// Scores the answers to `asked`, which are the first of questions(), in the same order.
  virtual ScoreResult score(const std::vector<TaskQuestion>& asked, const AnswerFile& answers) const = 0;
  /// Where an answer is cut; nothing: where the evaluation's sampling says.
  virtual std::optional<int64_t> max_new_tokens() const { return std::nullopt; }
  /// A file for the benchmark's server.
  virtual std::optional<Submission> submission(const AnswerFile& /*answers*/) const { return std::nullopt; }
};

using TaskFactory = std::function<std::shared_ptr<Task>(const TaskConfig&)>;

/// A task of the library, or of one's own program. Throws Error (usage) for other kinds.
std::shared_ptr<Task> make_task(const TaskConfig& config, const std::map<std::string, TaskFactory>& extensions = {});

/// Do two answers count as equal (metric exact)? In lower case and without surrounding space.
bool exact_match(const std::string& answer, const std::string& truth);

}  // namespace vlmamba
