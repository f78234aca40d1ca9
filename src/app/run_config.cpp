#include "vlmamba/app/run_config.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "vlmamba/io/config.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

class Complaints {
 public:
  explicit Complaints(std::string where) : where_(std::move(where)) {}
  void unless(bool fine, const std::string& key, const std::string& message) {
    if (fine) return;
    text_ += "[" + where_ + "] " + key + ": " + message + "\n";
    ++count_;
  }
  void throw_if_any() const {
    if (count_ > 0)
      throw Error(ExitCode::kUsage,
                  text_ + std::to_string(count_) + (count_ == 1 ? " error" : " errors") + ", nothing was started");
  }

 private:
  std::string where_, text_;
  int count_ = 0;
};

bool is_folder_name(const std::string& name) {
  static const std::set<std::string> taken{"eval", "index", "parts"};  // of a run
  return !name.empty() && !taken.contains(name) &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

const std::set<std::string>& parts() {
  static const std::set<std::string> all{"vision_encoder", "connector", "language_model"};
  return all;
}

void check_stage(const StageConfig& stage, const std::string& key, Complaints& complaints) {
  complaints.unless(!stage.trainable.empty(), key + ".trainable", "expected at least one part, got none");
  for (const auto& [part, how] : stage.trainable.parts)
    complaints.unless(parts().contains(part), key + ".trainable",
                      "expected vision_encoder, connector or language_model, got \"" + part + "\"");
  for (const auto& [part, own] : stage.optimizer.parts)
    complaints.unless(parts().contains(part), key + ".optimizer.parts",
                      "expected vision_encoder, connector or language_model, got \"" + part + "\"");
  complaints.unless(stage.batch.global_batch % stage.batch.micro_batch == 0, key + ".batch.micro_batch",
                    "expected a divisor of global_batch (" + std::to_string(stage.batch.global_batch) + "), got " +
                        std::to_string(stage.batch.micro_batch));
  complaints.unless(stage.frozen_dtype == Precision::kFloat32 || stage.precision == stage.frozen_dtype,
                    key + ".frozen_dtype", "expected float32 where precision is float32, got bfloat16");
  complaints.unless(!stage.data.sets.empty(), key + ".data.sets", "expected at least one set of records, got none");
  complaints.unless(stage.steps > 0 || stage.epochs > 0, key + ".steps",
                    "expected steps or epochs above 0, got 0 of both");
  complaints.unless(stage.validate_every == 0 || stage.data.validation_records > 0, key + ".validate_every",
                    "expected 0 without data.validation_records, got " + std::to_string(stage.validate_every));
  complaints.unless(stage.checkpoint.keep_best == KeepBest::kNone || stage.data.validation_records > 0,
                    key + ".checkpoint.keep_best",
                    "expected none without data.validation_records, got validation_loss");
  for (const auto& set : stage.data.sets)
    complaints.unless(!set.records.empty(), key + ".data.sets.records", "expected a file, got none");
}

void check_init(const InitFromConfig& init, const std::string& key, Complaints& complaints) {
  complaints.unless(!init.checkpoint.empty(), key + ".checkpoint", "expected a checkpoint or a file, got none");
  for (const auto& part : init.parts)
    complaints.unless(parts().contains(part), key + ".parts",
                      "expected vision_encoder, connector or language_model, got \"" + part + "\"");
}

bool is_known_benchmark(const std::string& kind) {
  const auto& all = benchmarks();
  return std::any_of(all.begin(), all.end(), [&](const Benchmark& benchmark) { return benchmark.name == kind; });
}

std::string absolute(const std::string& path, const std::string& root) {
  return path.empty() ? path : fs::absolute(fs::path(root) / path).lexically_normal().string();
}

// A folder that is not named is the root itself.
std::string folder(const std::string& path, const std::string& root) {
  return absolute(path.empty() ? "." : path, root);
}

void check_tasks(const EvalConfig& config, Complaints& complaints) {
  std::set<std::string> names;
  for (const auto& task : config.tasks) {
    complaints.unless(is_folder_name(task.name), "eval.tasks.name",
                      "expected letters, digits, _ and -, got \"" + task.name + "\"");
    complaints.unless(names.insert(task.name).second, "eval.tasks." + task.name,
                      "expected names that differ, got this one twice");
    complaints.unless(task.kind != "jsonl" || !task.questions.empty(), "eval.tasks." + task.name + ".questions",
                      "expected a file, got none");
    complaints.unless(!is_known_benchmark(task.kind) || !task.data.empty(), "eval.tasks." + task.name + ".data",
                      "expected the folder of the benchmark's files, got none");
  }
}

}  // namespace

void check_run_config(const RunConfig& config, const std::string& where) {
  Complaints complaints(where);
  complaints.unless(!config.output_dir.empty(), "output_dir", "expected a folder, got none");
  complaints.unless(!config.tokenizer.empty(), "tokenizer", "expected a tokenizer.json or its folder, got none");
  complaints.unless(config.image_processor.size == config.model.vision_encoder.image_size, "image_processor.size",
                    "expected model.vision_encoder.image_size (" +
                        std::to_string(config.model.vision_encoder.image_size) + "), got " +
                        std::to_string(config.image_processor.size));
  std::set<std::string> names;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const auto& stage = config.stages[i];
    const std::string key = "stages." + (stage.name.empty() ? std::to_string(i) : stage.name);
    complaints.unless(
        is_folder_name(stage.name), key + ".name",
        "expected letters, digits, _ and - (not \"eval\", \"index\" or \"parts\"), got \"" + stage.name + "\"");
    complaints.unless(names.insert(stage.name).second, key + ".name", "expected names that differ, got this one twice");
    check_stage(stage, key, complaints);
    if (stage.init_from) check_init(*stage.init_from, key + ".init_from", complaints);
  }
  check_tasks(config.eval, complaints);
  complaints.throw_if_any();
}

void check_eval_config(const EvalConfig& config, const std::string& where) {
  Complaints complaints(where);
  check_tasks(config, complaints);
  complaints.throw_if_any();
}

RunConfig resolved(RunConfig config) {
  config.output_dir = absolute(config.output_dir, "");
  for (std::string* path : {&config.tokenizer, &config.model.vision_encoder.pretrained,
                            &config.model.connector.pretrained, &config.model.language_model.pretrained})
    *path = absolute(*path, config.weights_root);
  for (auto& stage : config.stages) {
    if (stage.init_from) stage.init_from->checkpoint = absolute(stage.init_from->checkpoint, config.weights_root);
    for (auto& set : stage.data.sets) {
      set.records = absolute(set.records, config.data_root);
      set.image_root = folder(set.image_root, config.data_root);
    }
  }
  for (auto& task : config.eval.tasks) {
    task.questions = absolute(task.questions, config.data_root);
    task.data = absolute(task.data, config.data_root);
    if (task.data.empty() || !task.image_root.empty()) task.image_root = folder(task.image_root, config.data_root);
  }
  config.data_root.clear();
  config.weights_root.clear();
  return config;
}

RunConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  const auto config = io::read_config<RunConfig>(path, overrides);
  check_run_config(config, path);
  return resolved(config);
}

EvalConfig read_eval_config(const std::string& path, const std::vector<std::string>& overrides) {
  const auto config = io::read_config<RunConfig>(path, overrides);
  check_eval_config(config.eval, path);
  return resolved(config).eval;
}

RunConfig read_saved_config(const std::string& path, const std::vector<std::string>& overrides) {
  const auto read = [&](const std::vector<std::string>& changes) {
    return resolved(io::read_config<RunConfig>(path, changes));
  };
  try {
    const RunConfig saved = read({});
    if (overrides.empty()) return saved;
  } catch (const Error& error) {
    throw Error(ExitCode::kWeights, std::string(error.what()) + "\n(a run's own config that was changed or damaged)");
  }
  return read(overrides);
}

}  // namespace vlmamba::app
