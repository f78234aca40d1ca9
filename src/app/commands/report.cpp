#include "vlmamba/study/report.h"

#include <cstdio>
#include <memory>

#include "src/app/commands/commands.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::vector<std::string> folders;
  std::string output, published;
};

ExitCode report(const Options& options, const Extensions& extensions) {
  if (!options.output.ends_with(".html"))
    throw Error(ExitCode::kUsage, "--output", "expected a name that ends in .html, got " + options.output);
  const auto outcomes = study::read_outcomes(options.folders, options.published);
  const auto made = study::make_report(outcomes, extensions.tasks);
  study::write_report(made, options.output);
  std::printf("%s\n%s, and the same as .csv and .md\n", made.markdown.c_str(), options.output.c_str());
  return ExitCode::kOk;
}

}  // namespace

Command add_report(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("report", "Tables, curves and answers of runs or of a sweep on one page");
  command->add_option("folders", options->folders, "the folder of a sweep, or folders of runs")->required();
  command->add_option("--output", options->output, "HTML file; CSV and Markdown are written beside it")->required();
  command->add_option("--published", options->published, "file of published numbers to set beside ours");
  return {command, [options, &extensions] { return report(*options, extensions); }};
}

}  // namespace vlmamba::app
