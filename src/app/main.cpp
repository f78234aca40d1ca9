#include "vlmamba/app/main.h"

#include <c10/util/Exception.h>
#include <malloc.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>

#include "src/app/commands/commands.h"
#include "vlmamba/core/text.h"
#include "vlmamba/core/version.h"

namespace vlmamba::app {
namespace {

// Every step asks for the tensors of the one before: given back to the system in between, each page of them would be
// fetched and cleared again, which costs a scan's backward half its speed.
void keep_freed_memory() {
  constexpr int kLargeTensor = 1 << 30, kAll = std::numeric_limits<int>::max();
  mallopt(M_MMAP_THRESHOLD, kLargeTensor);
  mallopt(M_TRIM_THRESHOLD, kAll);
}

int finish(ExitCode code) { return static_cast<int>(code); }

}  // namespace

int main(int argc, char** argv, const Extensions& extensions) {
  keep_freed_memory();
  CLI::App app(
      "VL-Mamba: trains and evaluates a vision encoder, a selective-scan connector and a Mamba language model.");
  app.name("vlmamba");
  app.set_version_flag("--version", "vlmamba " + version() + ", LibTorch " + libtorch_version());
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Exit codes: 0 ok, 1 internal bug, 2 command line or config, 3 data, 4 weights, checkpoint or tokenizer,\n"
      "5 non-finite values, 6 disk, 7 another process lost, 75 stopped in good order (resume me).");
  std::vector<Command> commands;
  for (const auto add : {add_train, add_evaluate, add_score, add_sweep, add_report, add_compare, add_generate, add_chat,
                         add_inspect, add_convert, add_forward, add_tokenize, add_preprocess, add_check_data,
                         add_show_labels, add_replay, add_reference, add_bench})
    commands.push_back(add(app, extensions));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? finish(ExitCode::kOk) : finish(ExitCode::kUsage);
  }
  try {
    for (const auto& command : commands)
      if (*command.parsed) return finish(command.run());
    return finish(ExitCode::kUsage);
  } catch (const Error& error) {
    std::fprintf(stderr, "vlmamba: %s\n", printable(error.what(), "\n\t").c_str());
    return finish(error.code());
  } catch (const std::filesystem::filesystem_error& error) {  // too long, a loop of links, not to be entered
    std::fprintf(stderr, "vlmamba: [%s] expected a path that can be used, got: %s\n",
                 printable(error.path1().string()).c_str(), error.code().message().c_str());
    return finish(ExitCode::kIo);
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "vlmamba %s: internal error, please report it: %s\n", version().c_str(),
                 error.what_without_backtrace());
    return finish(ExitCode::kInternal);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vlmamba %s: internal error, please report it: %s\n", version().c_str(), error.what());
    return finish(ExitCode::kInternal);
  }
}

}  // namespace vlmamba::app
