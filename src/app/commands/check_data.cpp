#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>

#include "src/app/commands/commands.h"
#include "vlmamba/data/data_check.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string data, images, prompt_template = "v1", tokenizer, output;
  int64_t image_tokens = 576, max_length = 2048, threads = std::max(1u, std::thread::hardware_concurrency());
  bool mix665k = false;
};

PromptTemplate template_of(const std::string& name) {
  for (const auto& known : enum_names(PromptTemplate{}))
    if (known.name == name) return known.value;
  throw Error(ExitCode::kUsage, "--template", "expected plain, v1 or v1_neox, got \"" + name + "\"");
}

// A line a code: how often, how bad, and the first record that has it.
void print_report(const DataReport& report) {
  std::printf("%zu records, %lld usable\n", report.records.size(), static_cast<long long>(report.usable));
  for (const auto& code : data_codes()) {
    const auto count = report.code_counts.find(std::string(code.name));
    if (count == report.code_counts.end()) continue;
    const auto first = std::find_if(report.records.begin(), report.records.end(), [&](const RecordReport& record) {
      return std::binary_search(record.codes.begin(), record.codes.end(), code.name);
    });
    std::printf("  %-8s %8lld  %-26s %s (first: record %lld)\n",
                code.severity == Severity::kError ? "error" : "warning", static_cast<long long>(count->second),
                std::string(code.name).c_str(), std::string(code.meaning).c_str(),
                static_cast<long long>(first->index));
  }
}

bool print_composition(const std::string& path) {
  bool as_published = true;
  std::printf("  %-24s %10s %10s\n", "part of the 665K mix", "published", "found");
  for (const auto& row : mix665k_composition(path)) {
    std::printf("  %-24s %10lld %10lld\n", row.part.c_str(), static_cast<long long>(row.expected),
                static_cast<long long>(row.found));
    as_published = as_published && row.expected == row.found;
  }
  return as_published;
}

ExitCode check_data(const Options& options) {
  PromptConfig prompt;
  prompt.template_name = template_of(options.prompt_template);
  const auto tokenizer = Tokenizer::load(options.tokenizer);
  const DataChecker checker{tokenizer,          prompt,         options.images, options.image_tokens,
                            options.max_length, options.threads};
  const DataReport report = checker.check(options.data);
  print_report(report);
  const bool as_published = !options.mix665k || print_composition(options.data);
  if (!options.output.empty()) io::write_file_atomically(options.output, report.to_json().to_string(1) + "\n");
  return report.has_errors() || !as_published ? ExitCode::kData : ExitCode::kOk;
}

}  // namespace

Command add_check_data(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("check-data", "Find every problem of a LLaVA record file in one pass");
  command->add_option("--data", options->data, "JSON file in LLaVA's layout")->required();
  command->add_option("--images", options->images, "folder that the records' pictures lie below")->required();
  command->add_option("--tokenizer", options->tokenizer, "tokenizer.json, or its folder")->required();
  command->add_option("--template", options->prompt_template, "plain, v1 or v1_neox");
  command->add_option("--image-tokens", options->image_tokens, "positions of a picture")->check(CLI::PositiveNumber);
  command->add_option("--max-length", options->max_length, "positions that a sample may have")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", options->threads, "that decode pictures")->check(CLI::Range(1, 1024));
  command->add_option("--output", options->output, "JSON file for what was found in each record");
  command->add_flag("--mix665k", options->mix665k, "compare with the published composition of LLaVA-1.5's mix");
  command->footer("Exits with 3 if any record is unusable.");
  return {command, [options] { return check_data(*options); }};
}

}  // namespace vlmamba::app
