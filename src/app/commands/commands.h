#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <functional>
#include <vector>

#include "vlmamba/app/extensions.h"
#include "vlmamba/core/error.h"

/// A function for each subcommand: adds it to the command line and gives what it does when it is chosen.
namespace vlmamba::app {

struct Command {
  CLI::App* parsed;
  std::function<ExitCode()> run;
};

Command add_train(CLI::App& app, const Extensions& extensions);
Command add_chat(CLI::App& app, const Extensions& extensions);
Command add_check_data(CLI::App& app, const Extensions& extensions);
Command add_convert(CLI::App& app, const Extensions& extensions);
Command add_evaluate(CLI::App& app, const Extensions& extensions);
Command add_score(CLI::App& app, const Extensions& extensions);
Command add_forward(CLI::App& app, const Extensions& extensions);
Command add_generate(CLI::App& app, const Extensions& extensions);
Command add_inspect(CLI::App& app, const Extensions& extensions);
Command add_preprocess(CLI::App& app, const Extensions& extensions);
Command add_show_labels(CLI::App& app, const Extensions& extensions);
Command add_tokenize(CLI::App& app, const Extensions& extensions);
Command add_reference(CLI::App& app, const Extensions& extensions);
Command add_replay(CLI::App& app, const Extensions& extensions);
Command add_bench(CLI::App& app, const Extensions& extensions);
Command add_sweep(CLI::App& app, const Extensions& extensions);
Command add_report(CLI::App& app, const Extensions& extensions);
Command add_compare(CLI::App& app, const Extensions& extensions);

}  // namespace vlmamba::app
