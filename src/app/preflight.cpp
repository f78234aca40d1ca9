#include "src/app/preflight.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "src/app/predecessor.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/log.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

enum class Wanted { kFile, kFolder, kEither };

class Findings {
 public:
  void expect(const std::string& path, Wanted wanted, ExitCode code, const std::string& key) {
    if (path.empty() || !seen_.insert(path).second) return;
    std::error_code failed;
    const auto status = fs::status(path, failed);
    const bool right = wanted == Wanted::kFolder ? fs::is_directory(status)
                       : wanted == Wanted::kFile ? fs::is_regular_file(status)
                                                 : fs::exists(status);
    const std::string what = wanted == Wanted::kFolder ? "a folder" : "a file";
    if (!right)
      add(code, "[" + path + "] expected " + what + " (" + key + "), got " +
                    (fs::exists(status) ? "something else" : "no such file"));
    else if (::access(path.c_str(), R_OK) != 0)
      add(code, "[" + path + "] expected " + what + " that can be read (" + key + "), got: " + std::strerror(errno));
  }
  void run(const std::function<void()>& check) try { check(); } catch (const Error& error) {
    add(error.code(), error.what());
  }
  void warn_if_any(const std::string& of_what) const {
    if (code_) log::warn(of_what + text_.substr(0, text_.size() - 1));
  }
  void throw_if_any() const {
    if (!code_) return;
    if (count_ == 1) throw Error(*code_, text_.substr(0, text_.size() - 1));
    throw Error(*code_, text_ + std::to_string(count_) + " errors, nothing was started");
  }

 private:
  void add(ExitCode code, const std::string& line) {
    text_ += line + "\n";
    code_ = code_ ? std::min(*code_, code) : code;
    ++count_;
  }

  std::set<std::string> seen_;
  std::string text_;
  std::optional<ExitCode> code_;
  int count_ = 0;
};

// Weights that a stage starts from: there, whole, and of this model. What the run itself is yet to write is seen later.
void check_init(const RunConfig& config, const Tokenizer& tokenizer, const StageConfig& stage, Findings& findings) {
  const std::string& path = stage.init_from->checkpoint;
  if ((fs::path(path).lexically_normal() / "").string().starts_with((fs::path(config.output_dir) / "").string()))
    return;
  findings.expect(path, Wanted::kEither, ExitCode::kWeights, "stages." + stage.name + ".init_from.checkpoint");
  if (fs::exists(fs::path(path) / "config.json"))
    findings.run([&] { check_predecessor(config, tokenizer, find_checkpoint(path).folder, stage.init_from->parts); });
}

void check_records(const StageConfig& stage, Findings& findings) {
  const std::string key = "stages." + stage.name;
  for (const auto& set : stage.data.sets) {
    const std::string of_set = key + ".data.sets" + (set.name.empty() ? "" : "." + set.name);
    findings.expect(set.records, Wanted::kFile, ExitCode::kData, of_set + ".records");
    findings.expect(set.image_root, Wanted::kFolder, ExitCode::kData, of_set + ".image_root");
  }
}

void check_task(const TaskConfig& task, const Extensions& extensions, Findings& findings) {
  const std::string key = "eval.tasks." + task.name;
  findings.run([&] { make_task(task, extensions.tasks); });
  if (task.kind == "jsonl") findings.expect(task.questions, Wanted::kFile, ExitCode::kData, key + ".questions");
  if (task.image != ShownImage::kBlank)
    findings.expect(task.image_root, Wanted::kFolder, ExitCode::kData, key + ".image_root");
  for (const auto& benchmark : benchmarks())
    if (benchmark.name == task.kind)
      findings.run([&] { find_data(benchmark.name, benchmark.question_roles, task.data); });
}

}  // namespace

void check_inputs(const RunConfig& config, const std::vector<size_t>& chosen, const StartingPoint& start,
                  const Extensions& extensions) {
  Findings findings;
  std::optional<Tokenizer> tokenizer;
  findings.run([&] { tokenizer = load_tokenizer(config); });
  const auto& model = config.model;
  for (const auto& [part, weights] : {std::pair{"vision_encoder", &model.vision_encoder.pretrained},
                                      {"connector", &model.connector.pretrained},
                                      {"language_model", &model.language_model.pretrained}})
    if (!start.has_checkpoint())
      findings.expect(*weights, Wanted::kEither, ExitCode::kWeights, "model." + std::string(part) + ".pretrained");
  for (const size_t i : chosen) {
    if (i < start.stage) continue;
    const StageConfig& stage = config.stages[i];
    const bool begun = i == start.stage && start.step;
    if (stage.init_from && tokenizer && !begun) check_init(config, *tokenizer, stage, findings);
    check_records(stage, findings);
  }
  findings.throw_if_any();
  Findings of_evaluation;  // which may take place elsewhere
  for (const auto& task : config.eval.tasks) check_task(task, extensions, of_evaluation);
  of_evaluation.warn_if_any("the evaluation cannot run here as the config is:\n");
}

}  // namespace vlmamba::app
