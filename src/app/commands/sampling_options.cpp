#include "src/app/commands/sampling_options.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <cmath>
#include <cstdlib>

namespace vlmamba::app {
namespace {

// Comparisons with a NaN are false, so that it is within every range.
std::string refuse_non_finite(const std::string& text) {
  return std::isfinite(std::strtod(text.c_str(), nullptr)) ? "" : "expected a number, got " + text;
}

std::string refuse_none(const std::string& text) {
  return std::strtoll(text.c_str(), nullptr, 10) >= 1 ? "" : "expected at least 1, got " + text;
}

}  // namespace

void add_sampling_options(CLI::App& command, SamplingConfig& sampling, int64_t& seed) {
  command.add_option("--max-new-tokens", sampling.max_new_tokens, "tokens after which the answer is cut")
      ->check(refuse_none)
      ->capture_default_str();
  command.add_option("--temperature", sampling.temperature, "0: the most probable token")
      ->check(refuse_non_finite)
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "draws among tokens of this probability together")
      ->check(refuse_non_finite)
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "draws among so many tokens; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--seed", seed, "seed of the draws")->check(CLI::NonNegativeNumber)->capture_default_str();
}

}  // namespace vlmamba::app
