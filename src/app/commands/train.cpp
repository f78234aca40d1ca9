#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>

#include "src/app/commands/commands.h"
#include "src/app/continuation.h"
#include "src/app/plan.h"
#include "src/app/preflight.h"
#include "src/app/run.h"
#include "src/app/stop_signal.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/log.h"
#include "vlmamba/core/version.h"
#include "vlmamba/dist/launch.h"
#include "vlmamba/dist/replicas.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config, resume, stage;
  std::vector<std::string> overrides;
  bool dry_run = false;
};

RunConfig read_config(const Options& options) {
  if (options.resume.empty()) return read_run_config(options.config, options.overrides);
  const std::string path = options.resume + "/config.json";
  for (const auto& setting : options.overrides)
    if (setting.starts_with("output_dir="))
      throw Error(ExitCode::kUsage, "--set " + setting, "expected no other folder than that of --resume, got one");
  if (!fs::exists(path))
    throw Error(ExitCode::kUsage, options.resume, "expected a run (a folder with config.json), got none");
  const std::string here =
      "output_dir=" + fs::absolute(options.resume).lexically_normal().string();  // it may have moved
  if (options.config.empty()) {
    const RunConfig saved = read_saved_config(path, {here});
    if (options.overrides.empty()) return saved;
  }
  auto settings = options.overrides;
  settings.push_back(here);
  return read_run_config(options.config.empty() ? path : options.config, settings);
}

// What a run was trained with: its newest checkpoint says, or, where it has none yet, its config.
RunConfig config_before(const RunConfig& config, const StartingPoint& start, const std::string& run) {
  const std::string& place = start.has_checkpoint() ? start.checkpoint : run;
  RunConfig before = read_saved_config(place + "/config.json");
  before.output_dir = config.output_dir;
  return before;
}

// Which stages are to be trained: indices into config.stages.
std::vector<size_t> chosen_stages(const RunConfig& config, const std::string& only) {
  std::vector<size_t> chosen;
  std::string names;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    names += (names.empty() ? "" : ", ") + config.stages[i].name;
    if (only.empty() || config.stages[i].name == only) chosen.push_back(i);
  }
  if (chosen.empty())
    throw Error(ExitCode::kUsage, only.empty() ? "stages" : "--stage",
                "expected " + (names.empty() ? "a stage to train" : "one of " + names) + ", got " +
                    (only.empty() ? "none" : "\"" + only + "\""));
  return chosen;
}

// Rank 0 looks where a run goes on and tells the others, so that all do the same whatever the disk shows them.
StartingPoint agreed_start(const RunConfig& config, const std::vector<size_t>& chosen, Comm& comm) {
  std::string text;
  if (comm.is_first()) {
    const StartingPoint found = find_start(config, chosen);
    text = std::to_string(found.stage) + " " + std::to_string(found.step.value_or(-1)) + " " + found.checkpoint;
  }
  std::istringstream words(comm.broadcast(text, 0));
  StartingPoint start;
  int64_t step = -1;
  words >> start.stage >> step;
  words.get();
  std::getline(words, start.checkpoint, '\0');
  if (step >= 0) start.step = step;
  return start;
}

// Rank 0 alone keeps the run's folder; the others come in when it is there.
class RunFolder {
 public:
  /// Keeps others out of a run that is there already.
  RunFolder(const RunConfig& config, bool resumes, Comm& comm) : config_(config), comm_(comm) {
    if (!comm.is_first()) return;
    if (!resumes && fs::exists(config.output_dir + "/config.json"))
      throw Error(ExitCode::kUsage, config.output_dir,
                  "expected a folder without a run, got one; continue it with --resume, or name another with --set "
                  "output_dir=…");
    if (resumes) lock_.emplace(config.output_dir);
  }

  /// Writes the config, and begins the logs.
  void open(const std::vector<std::string>& changes) {
    const std::string text = io::write_config(config_).to_string(2) + "\n";
    compare_replicas(comm_, "config", text, "start");
    if (comm_.is_first()) {
      io::make_folder(config_.output_dir);
      if (!lock_) lock_.emplace(config_.output_dir);
      io::write_file_atomically(config_.output_dir + "/config.json", text);
    }
    comm_.barrier();
    const std::string rank = std::to_string(comm_.rank());
    if (!comm_.is_first()) log::quieten("rank " + rank + ": ");
    log::set_file(config_.output_dir + (comm_.is_first() ? "/log.txt" : "/log.rank_" + rank + ".txt"));
    log::info("vlmamba " + version() + ", LibTorch " + libtorch_version() + ", run " + config_.output_dir +
              (comm_.is_alone() ? "" : ", rank " + rank + " of " + std::to_string(comm_.size())));
    for (const auto& change : changes) log::info("config: " + change);
  }

 private:
  const RunConfig& config_;
  Comm& comm_;
  std::optional<RunLock> lock_;
};

ExitCode train_as_rank(const RunConfig& config, const std::vector<size_t>& chosen, const Extensions& extensions,
                       const std::string& resumed, const std::shared_ptr<Comm>& comm) {
  RunFolder folder(config, !resumed.empty(), *comm);
  const StartingPoint start = agreed_start(config, chosen, *comm);
  std::vector<std::string> changes;
  if (comm->is_first()) {
    if (!resumed.empty()) changes = check_changes(config_before(config, start, resumed), config);
    check_inputs(config, chosen, start, extensions);
  }
  Run run(config, extensions, comm, start,
          StopSignal::received);  // before anything is written: bad weights leave no run behind
  folder.open(changes);
  const StopSignal stop;
  return run.train(chosen);
}

ExitCode train(const Options& options, const Extensions& extensions) {
  const RunConfig config = read_config(options);
  const auto chosen = chosen_stages(config, options.stage);
  if (options.dry_run) {
    std::fputs(plan(config, chosen, extensions).c_str(), stdout);
    return ExitCode::kOk;
  }
  const std::shared_ptr<Comm> comm = join_launched(config.distributed);
  return as_rank(*comm, [&] { return train_as_rank(config, chosen, extensions, options.resume, comm); });
}

}  // namespace

Command add_train(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("train", "Train the stages of a run, or continue one");
  auto* config = command->add_option(
      "--config", options->config, "run config, a JSON file with comments; with --resume: what replaces the run's own");
  auto* resume = command->add_option("--resume", options->resume,
                                     "folder of a run that is to be continued; with --config or --set: as far as the "
                                     "changes let it");
  command
      ->add_option("--set", options->overrides,
                   "replaces a value of the config: key.path=value, e.g. stages.align.optimizer.lr=1e-3")
      ->expected(1)
      ->take_all();
  command->add_option("--stage", options->stage,
                      "only this stage, from what the one before left, or from the parts' own weights");
  command->add_flag("--dry-run", options->dry_run, "print what would be trained, and stop");
  command->callback([command, config, resume] {
    if (config->count() + resume->count() == 0) throw CLI::RequiredError("--config or --resume");
  });
  return {command, [options, &extensions] { return train(*options, extensions); }};
}

}  // namespace vlmamba::app
