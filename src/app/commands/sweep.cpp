#include "vlmamba/study/sweep.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>

#include "src/app/commands/commands.h"
#include "src/app/stop_signal.h"
#include "src/app/sweep_planner.h"
#include "vlmamba/core/log.h"
#include "vlmamba/core/version.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/study/children.h"
#include "vlmamba/study/report.h"
#include "vlmamba/study/sweep_record.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;
using study::PlannedRun;
using study::SweepConfig;

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  int64_t jobs = 1;
  bool dry_run = false;
};

// Keys of the sweep set the sweep, all others every run of it.
struct Settings {
  std::vector<std::string> of_sweep, of_runs;
};

Settings sorted(const std::vector<std::string>& overrides) {
  std::set<std::string> own;
  for (const auto& key : io::config_reference<SweepConfig>()) own.insert(key.path);
  Settings settings;
  for (const auto& text : overrides)
    (own.contains(text.substr(0, text.find_first_of(".="))) ? settings.of_sweep : settings.of_runs).push_back(text);
  return settings;
}

study::SweepRecord record_of(const SweepConfig& config, const study::Cells& cells, const std::vector<PlannedRun>& plan,
                             const std::string& command) {
  study::SweepRecord record{config.title, command, config.published, {}, {}, cells.tables};
  if (!record.published.empty()) record.published = fs::absolute(record.published).lexically_normal().string();
  for (const auto& cell : cells.cells) record.cells.push_back({cell.name, cell.settings});
  for (const auto& run : plan)
    record.runs.push_back({run.cell, run.seed, fs::path(run.folder).lexically_relative(config.output_dir).string()});
  return record;
}

std::string command_of(const Options& options) {
  std::string command = "vlmamba sweep --config " + options.config;
  for (const auto& setting : options.overrides) command += " --set '" + setting + "'";
  return command;
}

ExitCode summarise(const study::SweepOutcome& outcome, size_t planned, const std::string& folder) {
  log::info(std::to_string(outcome.finished) + " of " + std::to_string(planned) + " runs are finished (" +
            std::to_string(outcome.found) + " were already): " + folder);
  for (const auto& failure : outcome.failures) log::warn("failed: " + failure.run + ": " + failure.why);
  if (outcome.stopped) {
    log::info("stopped in good order; the same command goes on");
    return ExitCode::kPreempted;
  }
  if (outcome.failures.empty()) return ExitCode::kOk;
  const int code = outcome.failures.front().code;
  constexpr int kFirst = static_cast<int>(ExitCode::kUsage), kLast = static_cast<int>(ExitCode::kPeerLost);
  return code >= kFirst && code <= kLast ? static_cast<ExitCode>(code) : ExitCode::kInternal;
}

ExitCode sweep(const Options& options, const Extensions& extensions) {
  const Settings settings = sorted(options.overrides);
  const SweepConfig config = read_sweep(options.config, settings.of_sweep);
  const SweepPlanner planner(config, settings.of_runs, options.config);
  const auto plan = planner.plan();
  if (options.dry_run) {
    std::printf("%zu cells, %zu seeds, %zu runs\n%s", planner.cells().cells.size(), config.seeds.size(), plan.size(),
                study::describe(plan).c_str());
    return ExitCode::kOk;
  }
  io::make_folder(config.output_dir);
  const study::SweepLock lock(config.output_dir);
  const auto record = record_of(config, planner.cells(), plan, command_of(options));
  io::write_file_atomically(config.output_dir + "/sweep.json", io::write_config(record).to_string(2) + "\n");
  log::set_file(config.output_dir + "/log.txt");
  log::info("vlmamba " + version() + ", LibTorch " + libtorch_version() + ", sweep " + config.output_dir);
  const StopSignal stop;
  const study::SweepSetup setup{config.output_dir,
                                study::own_program(),
                                config.launch,
                                options.jobs,
                                [](const std::string& path) { return io::write_config(read_run_config(path, {})); },
                                StopSignal::received};
  study::prepare(config.prepare, setup);
  expect_no_pictures(config, plan);
  const auto outcome = study::run_sweep(plan, setup);
  const std::string page = config.output_dir + "/report.html";
  study::write_report(study::make_report(study::read_outcomes({config.output_dir}, ""), extensions.tasks), page);
  log::info("report: " + page);
  return summarise(outcome, plan.size(), config.output_dir);
}

}  // namespace

Command add_sweep(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("sweep", "Train and evaluate many runs that differ in a few keys, and report on them");
  command->add_option("--config", options->config, "sweep config, a JSON file with comments")->required();
  command
      ->add_option("--set", options->overrides,
                   "replaces a value of the sweep, or of the config of every run: key.path=value")
      ->expected(1)
      ->take_all();
  command->add_option("--jobs", options->jobs, "runs at a time, among which the cores are divided")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--dry-run", options->dry_run, "print the runs and what they share, and stop");
  return {command, [options, &extensions] { return sweep(*options, extensions); }};
}

}  // namespace vlmamba::app
