#include "bench/bench.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <sstream>

#include "src/app/answer_bench.h"
#include "src/app/commands/commands.h"
#include "vlmamba/core/version.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::app {
namespace {

struct Options {
  bench::Options bench;
  AnswerBench answer_bench;
  bool answers = false;
  std::string device = "cpu", dtype = "fp32", instructions, json;
  int threads = 0;
};

constexpr std::array<std::pair<const char*, at::ScalarType>, 4> kTypes{
    {{"fp32", at::kFloat}, {"bf16", at::kBFloat16}, {"fp16", at::kHalf}, {"fp64", at::kDouble}}};

at::ScalarType type_named(const std::string& name) {
  for (const auto& [known, type] : kTypes)
    if (name == known) return type;
  throw Error(ExitCode::kUsage, "--dtype", "expected fp32, bf16, fp16 or fp64, got " + name);
}

// `given` as the user wrote it may be any number, NaN among them.
template <typename Number>
void expect_between(const char* option, Number given, double least, double most, const std::string& what) {
  if (given >= least && given <= most) return;
  std::ostringstream text;
  text << "expected " << what << " from " << least << " to " << most << ", got " << given;
  throw Error(ExitCode::kUsage, option, text.str());
}

// The threads and the instructions that are asked for, while it lives: its process may go on to train.
class Chosen {
 public:
  explicit Chosen(const Options& options) : threads_(at::get_num_threads()), instructions_(bench::instructions()) {
    bench::use_instructions(options.instructions);
    if (options.threads > 0) at::set_num_threads(options.threads);
  }
  ~Chosen() {
    at::set_num_threads(threads_);
    bench::use_instructions(instructions_);
  }
  Chosen(const Chosen&) = delete;
  Chosen& operator=(const Chosen&) = delete;

 private:
  int threads_;
  std::string instructions_;
};

ExitCode run(Options options) {
  auto& bench = options.bench;
  expect_between("--threads", options.threads, 0, 1024, "a number of threads, or 0 for all,");
  expect_between("--seconds", bench.seconds, 0, 3600, "seconds");
  if (options.answers) {
    const Chosen chosen(options);
    run(options.answer_bench);
    return ExitCode::kOk;
  }
  if (options.device != "cpu" && options.device != "cuda")
    throw Error(ExitCode::kUsage, "--device", "expected cpu or cuda, got " + options.device);
  if (options.device == "cuda" && !at::hasCUDA())
    throw Error(ExitCode::kUsage, "--device", "expected cpu (no CUDA device was found), got cuda");
  bench.device = options.device == "cuda" ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  bench.type = type_named(options.dtype);
  const double free = bench::available_bytes(bench.device) / 1073741824;
  expect_between("--memory", bench.memory_gib, 0, free, "GiB that are free, or 0 for half of them,");
  if (bench.shapes.empty()) bench.shapes = {options.device == "cuda" ? "lm" : "cpu"};
  for (const auto& op : bench.ops)
    if (std::find(bench::op_names().begin(), bench::op_names().end(), op) == bench::op_names().end()) {
      std::string names;
      for (const auto& name : bench::op_names()) names += (names.empty() ? "" : ", ") + name;
      throw Error(ExitCode::kUsage, "--ops", "expected some of " + names + ", got " + op);
    }
  for (const auto& shapes : bench.shapes) bench::shapes_of(shapes);  // wrong ones are named before anything runs
  const Chosen chosen(options);

  const auto limits = bench::limits_of(bench.device);
  std::printf("vlmamba %s, LibTorch %s, %s, %s, copies at %.0f GB/s\n", version().c_str(), libtorch_version().c_str(),
              limits.name.c_str(), options.dtype.c_str(), limits.bytes_per_second / 1e9);
  const auto rows = bench::run(bench, limits);
  if (rows.empty()) throw Error(ExitCode::kUsage, "--ops", "expected an op that has shapes in --shapes, got none");
  if (!options.json.empty())
    io::write_file_atomically(options.json, bench::to_json(bench, limits, rows).to_string(2) + "\n");
  return ExitCode::kOk;
}

}  // namespace

Command add_bench(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("bench", "Measure the kernels: time, bytes, exponentials, memory");
  std::string suites;
  for (const auto& suite : bench::suites()) suites += std::string("\n  ") + suite.name + ": " + suite.help;
  auto& bench = options->bench;
  command->add_option("--shapes", bench.shapes, "suites, or sizes as \"B8 L2048 D5120 N16\" (cpu, or lm on a GPU)")
      ->delimiter(',');
  command->add_option("--ops", bench.ops, "only these ops")->delimiter(',');
  command->add_option("--device", options->device, "cpu | cuda")->capture_default_str();
  command->add_option("--dtype", options->dtype, "fp32 | bf16 | fp16 | fp64")->capture_default_str();
  command->add_option("--threads", options->threads, "threads of the CPU; 0: all")->capture_default_str();
  command->add_option("--instructions", options->instructions, "baseline | avx2 | avx512 (the best there is)");
  command->add_option("--seconds", bench.seconds, "spent on each measurement")->capture_default_str();
  command->add_option("--memory", bench.memory_gib, "GiB that a shape may take; 0: half of what is free")
      ->capture_default_str();
  command->add_flag("!--no-reference", bench.reference, "leave out the comparison with plain ATen");
  command->add_option("--json", options->json, "write the figures to this file");
  auto* answers = command->add_flag("--answers", options->answers,
                                    "measure instead how much faster questions are answered that share pictures");
  command->add_option("--questions", options->answer_bench.questions, "about each picture, with --answers")
      ->needs(answers)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--pictures", options->answer_bench.pictures, "with --answers")
      ->needs(answers)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->footer(
      "Suites:" + suites +
      "\n\nms: median of the repetitions. GB/s, Gexp/s, Gstep/s: the least bytes that the pass must move, its\n"
      "exponentials and its state steps, a second. of limit: the share of what copies reach (mem) or of the\n"
      "special-function units (exp). extra MiB: what forward and backward hold beyond inputs, outputs and gradients.\n"
      "x ATen: how many times longer the plain form takes, in turn with ours at a size that it can do.");
  return {command, [options] { return run(*options); }};
}

}  // namespace vlmamba::app
