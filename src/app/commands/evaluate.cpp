#include <charconv>
#include <cstdio>
#include <memory>

#include "src/app/commands/commands.h"
#include "src/app/stop_signal.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/log.h"
#include "vlmamba/core/version.h"
#include "vlmamba/dist/launch.h"
#include "vlmamba/eval/evaluator.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string checkpoint, config, output, shard;
  std::vector<std::string> overrides;
  bool save_inputs = false;
};

std::string command_of(const Options& options) {
  std::string command = "vlmamba evaluate --checkpoint " + options.checkpoint;
  if (!options.config.empty()) command += " --config " + options.config;
  for (const auto& setting : options.overrides) command += " --set '" + setting + "'";
  return command + (options.output.empty() ? "" : " --output " + options.output);
}

// The manifest holds the hash of every file.
std::string checkpoint_hash(const LoadedModel& loaded) {
  return io::sha256(io::read_file(loaded.place.folder + "/manifest.json", ExitCode::kWeights));
}

io::Json provenance(const Options& options, const LoadedModel& loaded, const EvalConfig& eval) {
  io::Json json = io::Json::object();
  json.set("checkpoint", loaded.place.folder);
  json.set("stage", loaded.place.stage);
  json.set("step", loaded.place.step);
  json.set("checkpoint_sha256", checkpoint_hash(loaded));
  json.set("config_sha256", io::sha256(io::write_config(loaded.config).to_string()));
  json.set("eval", io::write_config(eval));
  json.set("command", command_of(options));
  json.set("vlmamba", version());
  json.set("libtorch", libtorch_version());
  return json;
}

// All that answers depend on beside the questions and what they show.
std::string evaluation_name(const LoadedModel& loaded, const SamplingConfig& sampling) {
  io::Json json = io::Json::array();
  json.push(checkpoint_hash(loaded));
  json.push(io::write_config(loaded.config.model));
  json.push(io::write_config(loaded.config.image_processor));
  json.push(io::write_config(loaded.config.prompt));
  json.push(io::write_config(sampling));
  json.push(loaded.config.seed);
  json.push(version());
  json.push(libtorch_version());
  return io::sha256(json.to_string());
}

// "2/4": the third of four.
Shard parse_shard(const std::string& text, const std::string& where) {
  Shard shard;
  const auto slash = text.find('/');
  const auto read = [&](const char* begin, const char* end, int64_t& value) {
    const auto [at, error] = std::from_chars(begin, end, value);
    return error == std::errc() && at == end && begin != end;
  };
  const char* begin = text.data();
  const bool fine = slash != std::string::npos && read(begin, begin + slash, shard.rank) &&
                    read(begin + slash + 1, begin + text.size(), shard.size);
  if (!fine || shard.rank < 0 || shard.rank >= shard.size)
    throw Error(ExitCode::kUsage, where, "expected I/N, the I-th of N processes from 0 on, got \"" + text + "\"");
  return shard;
}

// The part of this process among those that a launcher started; all there is where it was started alone.
Shard launched_shard() {
  const auto [rank, size] = launched_rank();
  return {rank, size};
}

ExitCode evaluate(const Options& options, const Extensions& extensions) {
  const bool own_config = !options.config.empty();
  const Shard shard = options.shard.empty() ? launched_shard() : parse_shard(options.shard, "--shard");
  LoadedModel loaded =
      load_checkpoint(options.checkpoint, extensions, own_config ? std::vector<std::string>{} : options.overrides);
  const EvalConfig eval = own_config ? read_eval_config(options.config, options.overrides) : loaded.config.eval;
  if (!own_config) check_eval_config(eval, options.checkpoint);
  if (eval.tasks.empty()) throw Error(ExitCode::kUsage, "eval.tasks", "expected at least one task, got none");
  if (eval.prompt) loaded.config.prompt = *eval.prompt;
  const std::string place = loaded.place.stage + "_step_" + std::to_string(loaded.place.step);
  const std::string folder = options.output.empty() ? loaded.place.run_folder + "/eval/" + place : options.output;
  std::vector<std::shared_ptr<Task>> tasks;  // all before the first is asked: a wrong kind is told early
  for (const auto& task : eval.tasks) tasks.push_back(make_task(task, extensions.tasks));
  const StopSignal stop;
  const Evaluator evaluator(
      {eval.batch, folder, place, provenance(options, loaded, eval), shard, options.save_inputs, StopSignal::received});
  std::vector<TaskResult> results;
  for (size_t i = 0; i < tasks.size(); ++i) {
    SamplingConfig sampling = eval.sampling;
    const auto own_length = eval.tasks[i].max_new_tokens;
    sampling.max_new_tokens =
        own_length ? *own_length : tasks[i]->max_new_tokens().value_or(eval.sampling.max_new_tokens);
    const Responder responder =
        loaded.responder(sampling, static_cast<uint64_t>(loaded.config.seed), eval.prefix_memory_mib << 20);
    const auto result = evaluator.run(eval.tasks[i], *tasks[i], responder, evaluation_name(loaded, sampling));
    if (StopSignal::received()) {
      log::info("stopped; the same command goes on where it stopped");
      return ExitCode::kPreempted;
    }
    if (result) results.push_back(*result);
  }
  if (!results.empty()) std::printf("%s", to_table(results).c_str());
  return ExitCode::kOk;
}

}  // namespace

Command add_evaluate(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("evaluate", "Ask a checkpoint the questions of its evaluation tasks, and score");
  command->add_option("--checkpoint", options->checkpoint, "a run (its newest checkpoint) or a step folder")
      ->required();
  command->add_option(
      "--config", options->config,
      "takes the section eval from this config, which need hold nothing else, not from the checkpoint's");
  command->add_option("--set", options->overrides, "replaces a value of the config: key.path=value, e.g. eval.batch=8")
      ->expected(1)
      ->take_all();
  command->add_option("--output", options->output, "folder for answers and results; default RUN/eval/STAGE_step_N");
  command->add_option("--shard", options->shard,
                      "I/N: this process asks the I-th of N parts (from 0); the last to finish puts all together");
  command->add_flag("--save-inputs", options->save_inputs,
                    "keeps every question's prompt, its ids, and its picture as the encoder sees it");
  return {command, [options, &extensions] { return evaluate(*options, extensions); }};
}

}  // namespace vlmamba::app
