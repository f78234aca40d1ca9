#include <cstdio>

#include "src/app/commands/commands.h"
#include "vlmamba/app/run_config.h"
#include "vlmamba/io/config.h"

namespace vlmamba::app {
namespace {

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? "\\|" : std::string(1, c);
  return result;
}

ExitCode print_reference() {
  std::printf(
      "# All keys of a run config\n\nMade by `vlmamba reference`. A config is JSON with `//` comments; every key has a "
      "default, "
      "and unknown keys are errors.\n\n| key | type | default | what it is |\n|---|---|---|---|\n");
  for (const auto& key : io::config_reference<RunConfig>())
    std::printf("| `%s` | %s | %s | %s |\n", key.path.c_str(), escaped(key.type).c_str(),
                key.fallback.empty() ? "" : ("`" + escaped(key.fallback) + "`").c_str(), escaped(key.help).c_str());
  return ExitCode::kOk;
}

}  // namespace

Command add_reference(CLI::App& app, const Extensions&) {
  return {app.add_subcommand("reference", "Print a table of all keys of a run config"), print_reference};
}

}  // namespace vlmamba::app
