#include <cstdio>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/version.h"
#include "vlmamba/eval/evaluator.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string checkpoint, config, output;
  std::vector<std::string> overrides;
};

std::string command_of(const Options& options) {
  std::string command = "vlmamba evaluate --checkpoint " + options.checkpoint;
  if (!options.config.empty()) command += " --config " + options.config;
  for (const auto& setting : options.overrides) command += " --set '" + setting + "'";
  return command + (options.output.empty() ? "" : " --output " + options.output);
}

io::Json provenance(const Options& options, const LoadedModel& loaded, const EvalConfig& eval) {
  io::Json json = io::Json::object();
  json.set("checkpoint", loaded.place.folder);
  json.set("stage", loaded.place.stage);
  json.set("step", loaded.place.step);
  // The manifest holds the hash of every file.
  const std::string manifest = io::read_file(loaded.place.folder + "/manifest.json", ExitCode::kWeights);
  json.set("checkpoint_sha256", io::sha256(manifest));
  json.set("config_sha256", io::sha256(io::write_config(loaded.config).to_string()));
  json.set("eval", io::write_config(eval));
  json.set("command", command_of(options));
  json.set("vlmamba", version());
  json.set("libtorch", libtorch_version());
  return json;
}

ExitCode evaluate(const Options& options, const Extensions& extensions) {
  const bool own_config = !options.config.empty();
  const LoadedModel loaded =
      load_checkpoint(options.checkpoint, extensions, own_config ? std::vector<std::string>{} : options.overrides);
  const EvalConfig eval = own_config ? read_run_config(options.config, options.overrides).eval : loaded.config.eval;
  if (eval.tasks.empty()) throw Error(ExitCode::kUsage, "eval.tasks", "expected at least one task, got none");
  const std::string place = loaded.place.stage + "_step_" + std::to_string(loaded.place.step);
  const std::string folder = options.output.empty() ? loaded.place.run_folder + "/eval/" + place : options.output;
  std::vector<std::shared_ptr<Task>> tasks;  // all before the first is asked: a wrong kind is told early
  for (const auto& task : eval.tasks) tasks.push_back(make_task(task, extensions.tasks));
  const Evaluator evaluator(eval.batch, folder, place, provenance(options, loaded, eval));
  std::vector<TaskResult> results;
  for (size_t i = 0; i < tasks.size(); ++i) {
    SamplingConfig sampling = eval.sampling;
    const auto own_length = eval.tasks[i].max_new_tokens;
    sampling.max_new_tokens =
        own_length ? *own_length : tasks[i]->max_new_tokens().value_or(eval.sampling.max_new_tokens);
    const Responder responder = loaded.responder(sampling, static_cast<uint64_t>(loaded.config.seed));
    results.push_back(evaluator.run(eval.tasks[i], *tasks[i], responder));
  }
  std::printf("%s", to_table(results).c_str());
  return ExitCode::kOk;
}

}  // namespace

Command add_evaluate(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("evaluate", "Ask a checkpoint the questions of its evaluation tasks, and score");
  command->add_option("--checkpoint", options->checkpoint, "a run (its newest checkpoint) or a step folder")
      ->required();
  command->add_option("--config", options->config,
                      "takes the section eval from this run config, not from the checkpoint's");
  command->add_option("--set", options->overrides, "replaces a value of the config: key.path=value, e.g. eval.batch=8")
      ->expected(1)
      ->take_all();
  command->add_option("--output", options->output, "folder for answers and results; default RUN/eval/STAGE_step_N");
  return {command, [options, &extensions] { return evaluate(*options, extensions); }};
}

}  // namespace vlmamba::app
