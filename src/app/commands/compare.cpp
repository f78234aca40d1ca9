#include "vlmamba/study/compare.h"

#include <cstdio>
#include <memory>

#include "src/app/commands/commands.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string left, right;
  int64_t examples = 10;
  study::CompareOptions bootstrap;
};

study::RunOutcome evaluated_run(const std::string& folder) {
  auto run = study::read_run(folder);
  if (!run.begun) throw Error(ExitCode::kUsage, folder, "expected a run (a folder with config.json), got none");
  if (run.tasks.empty())
    throw Error(ExitCode::kUsage, folder, "expected a run that was evaluated after its last stage, got none of that");
  return run;
}

ExitCode compare(const Options& options, const Extensions& extensions) {
  const auto left = evaluated_run(options.left), right = evaluated_run(options.right);
  const auto comparison = study::compare_runs(left, right, options.bootstrap, extensions.tasks);
  std::printf("%s", study::to_text(comparison, left, right, options.examples).c_str());
  return ExitCode::kOk;
}

}  // namespace

Command add_compare(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("compare", "Tell two evaluated runs apart: configs, scores, answers");
  command->add_option("A", options->left, "folder of a run")->required();
  command->add_option("B", options->right, "folder of another")->required();
  command->add_option("--examples", options->examples, "questions shown that only one got right, for each side")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  command->add_option("--draws", options->bootstrap.draws, "of the bootstrap")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str();
  command->add_option("--seed", options->bootstrap.seed, "of the bootstrap")->capture_default_str();
  return {command, [options, &extensions] { return compare(*options, extensions); }};
}

}  // namespace vlmamba::app
