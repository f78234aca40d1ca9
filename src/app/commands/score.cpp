#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/core/log.h"
#include "vlmamba/core/version.h"
#include "vlmamba/eval/benchmark.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string task, data, answers, judgements, output, protocol = "llava";
  bool allow_partial = false;
};

std::string quoted(const std::string& word) {
  const bool plain = word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,+-") ==
                     std::string::npos;
  if (plain && !word.empty()) return word;
  std::string result = "'";
  for (const char c : word) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string command_of(const Options& options) {
  std::string command = "vlmamba score --task " + options.task + " --data " + quoted(options.data) + " --answers " +
                        quoted(options.answers);
  if (!options.judgements.empty()) command += " --judgements " + quoted(options.judgements);
  if (options.protocol != "llava") command += " --protocol " + options.protocol;
  if (!options.output.empty()) command += " --output " + quoted(options.output);
  return command + (options.allow_partial ? " --allow-partial" : "");
}

// What asked the model left its config's hash beside the answers.
void append_provenance(const fs::path& answers, io::Json& json) {
  const fs::path beside = answers.parent_path() / "results.json";
  if (!fs::is_regular_file(beside)) return;
  const io::Json results = io::read_json(beside.string(), ExitCode::kData);
  if (!results.is_object()) return;
  if (const io::Json* provenance = results.find("provenance")) json.append("answers_provenance", *provenance);
}

void append_origin(const Options& options, const ScoreInput& input, double seconds, io::Json& json) {
  json.append("protocol", options.protocol);
  json.append("allow_partial", input.allow_partial);
  json.append("answers", fs::absolute(options.answers).lexically_normal().string());
  if (fs::is_regular_file(options.answers)) {
    json.append("answers_sha256", io::sha256(io::read_file(options.answers, ExitCode::kData)));
    append_provenance(options.answers, json);
  }
  io::Json& data = json.append("data", io::Json::object());
  for (const auto& [role, path] : input.data) data.append(role, fs::absolute(path).lexically_normal().string());
  json.append("seconds", seconds);
  json.append("command", command_of(options));
  json.append("vlmamba", version());
}

void print(const Benchmark& benchmark, const ScoreResult& result) {
  const auto count = [&](const char* key) { return static_cast<long long>(result.counts.find(key)->as_integer()); };
  std::printf("%s: %lld of %lld questions answered, %lld missing\n", std::string(benchmark.name).c_str(),
              count("answered"), count("questions"), count("missing"));
  if (result.score)
    std::printf("score %.4f (%s%s%s)\n", *result.score, std::string(benchmark.headline).c_str(),
                result.judge.empty() ? "" : "; judged by ", result.judge.c_str());
  else
    std::printf("score: none yet (%s)\n", std::string(benchmark.headline).c_str());
  for (const auto& [name, value] : result.metrics.members())
    std::printf("  %-40s %s\n", name.c_str(), value.to_string().c_str());
}

// What is left to the judge, as a file that can be sent.
void write_requests(const Options& options, const ScoreResult& result) {
  if (result.judge_requests.empty()) return;
  const std::string count = std::to_string(result.judge_requests.size()) + " answers are left to a judge";
  if (options.output.empty()) {
    log::info(count + "; --output writes the requests");
    return;
  }
  const std::string path = fs::path(options.output).replace_extension().string() + ".judge_requests.jsonl";
  io::write_file_atomically(path, to_batch(result.judge_requests, result.judge_call));
  log::info(count + ": " + path + " (what it says comes back with --judgements FILE)");
}

ExitCode score(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  const Benchmark& benchmark = find_benchmark(options.task);
  ScoreInput input{find_data(benchmark, options.data),
                   read_answers(options.answers),
                   {},
                   options.allow_partial,
                   options.protocol == "llava" ? Protocol::kLlava : Protocol::kLmmsEval};
  if (!options.judgements.empty()) input.judgements = read_judgements(options.judgements);
  const ScoreResult result = benchmark.score(input);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const auto& warning : result.warnings) log::warn(warning);
  print(benchmark, result);
  if (!options.output.empty()) {
    io::Json json = to_json(benchmark, result, input);
    append_origin(options, input, seconds, json);
    std::error_code ignored;  // the write says what is wrong
    fs::create_directories(fs::absolute(options.output).parent_path(), ignored);
    io::write_file_atomically(options.output, json.to_string(2) + "\n");
  }
  write_requests(options, result);
  return ExitCode::kOk;
}

}  // namespace

Command add_score(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  std::string names;
  for (const auto& benchmark : benchmarks()) names += (names.empty() ? "" : ", ") + std::string(benchmark.name);
  CLI::App* command =
      app.add_subcommand("score", "Score any model's answers to a benchmark, as its official script does");
  command->add_option("--task", options->task, names)->required();
  command->add_option("--data", options->data, "folder with the benchmark's files, under their official names")
      ->required();
  command
      ->add_option("--answers", options->answers,
                   "LLaVA's answer lines, an official result list, an object from id to text, or a judge's grades")
      ->required();
  command->add_option("--judgements", options->judgements, "what a judge said to the written requests");
  command->add_option("--protocol", options->protocol, "llava (the official scripts), or lmms_eval where it differs")
      ->check(CLI::IsMember({"llava", "lmms_eval"}));
  command->add_option("--output", options->output,
                      "writes results.json there, and beside it what a judge is to be asked");
  command->add_flag("--allow-partial", options->allow_partial,
                    "scores a file with missing answers, as the official script counts them");
  return {command, [options] { return score(*options); }};
}

}  // namespace vlmamba::app
