#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "vlmamba/eval/benchmark.h"

/// The public answers and ground truths with known scores, where a checkout has them.
namespace vlmamba::test {

inline std::string shared(const std::string& path) { return std::string(VLMAMBA_SHARED_DATA) + "/" + path; }
inline bool has_shared(const std::string& path) { return std::filesystem::exists(shared(path)); }

/// Scores an answers file of shared data.
inline ScoreResult score_shared(const std::string& task, const std::string& answers, bool allow_partial = false) {
  const Benchmark& benchmark = find_benchmark(task);
  return benchmark.score(
      {find_data(benchmark, shared(task)), read_answers(shared(task + "/" + answers)), {}, allow_partial});
}

/// Every number below `expected` is a metric of the same name, levels joined by `/`.
inline void expect_metrics(const ScoreResult& result, const io::Json& expected, const std::string& prefix = "") {
  if (expected.is_number()) {
    const io::Json* metric = result.metrics.find(prefix);
    ASSERT_NE(metric, nullptr) << prefix;
    EXPECT_NEAR(metric->as_number(), expected.as_number(), 1e-6) << prefix;
  }
  const std::string start = prefix.empty() ? "" : prefix + "/";
  for (const auto& [key, value] : expected.members()) expect_metrics(result, value, start + key);
  for (size_t i = 0; i < expected.items().size(); ++i)
    expect_metrics(result, expected.items()[i], start + std::to_string(i));
}

inline io::Json expected_of(const std::string& task) {
  return io::read_json(shared(task + "/expected.json"), ExitCode::kData);
}

}  // namespace vlmamba::test

#define SKIP_WITHOUT_SHARED(path) \
  if (!vlmamba::test::has_shared(path)) GTEST_SKIP() << "no such shared data: " << vlmamba::test::shared(path)
