#include "vlmamba/eval/benchmark.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

namespace vlmamba {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNamed = 12;

std::string escaped(const std::string& folder) {
  std::string result;
  for (const char c : folder) {
    if (std::string_view("\\*?[]{},~").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

std::vector<std::string> matches(const std::string& folder, std::string_view pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  const std::string whole = escaped(folder) + "/" + std::string(pattern);
  if (glob(whole.c_str(), GLOB_BRACE, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

std::string listed(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) list += (i ? ", " : "") + names[i];
  if (names.size() > kMostNamed) list += ", … (" + std::to_string(names.size()) + " in all)";
  return list.empty() ? "nothing" : list;
}

std::string contents(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string() + (entry.is_directory() ? "/" : ""));
  return listed(std::move(names));
}

}  // namespace

const Benchmark& find_benchmark(std::string_view name) {
  std::string names;
  for (const auto& benchmark : benchmarks()) {
    if (benchmark.name == name) return benchmark;
    names += (names.empty() ? "" : ", ") + std::string(benchmark.name);
  }
  throw Error(ExitCode::kUsage, "--task", "expected one of " + names + ", got \"" + std::string(name) + "\"");
}

DataFiles find_data(const Benchmark& benchmark, const std::string& folder) {
  return find_data(benchmark.name, benchmark.roles, folder);
}

DataFiles find_data(std::string_view name, const std::vector<DataRole>& roles, const std::string& folder) {
  if (!fs::is_directory(folder))
    throw Error(ExitCode::kData, folder,
                "expected the folder of " + std::string(name) + "'s data, got " +
                    (fs::exists(folder) ? "a file" : "no such folder"));
  DataFiles files;
  for (const auto& role : roles) {
    const auto found = matches(folder, role.pattern);
    const std::string wanted =
        std::string(role.name) + ": expected one match of " + std::string(role.pattern) + ", got ";
    if (found.size() > 1)
      throw Error(ExitCode::kData, folder, wanted + std::to_string(found.size()) + ": " + listed(found));
    if (found.size() == 1)
      files.emplace(role.name, found[0]);
    else if (role.needed)
      throw Error(ExitCode::kData, folder, wanted + "none; the folder holds " + contents(folder));
  }
  return files;
}

io::Json to_json(const Benchmark& benchmark, const ScoreResult& result, const ScoreInput& input) {
  io::Json json = io::Json::object();
  json.append("task", benchmark.name);
  json.append("score", result.score ? io::Json(*result.score) : io::Json());
  json.append("score_is", benchmark.headline);
  if (!result.judge.empty()) json.append("judge", result.judge);
  json.append("metrics", result.metrics);
  json.append("counts", result.counts);
  for (const auto& [key, value] : result.details.members()) json.append(key, value);
  io::Json& warnings = json.append("warnings", io::Json::array());
  for (const auto& warning : result.warnings) warnings.push(warning);
  if (!input.answers.model_id.empty()) json.append("model_id", input.answers.model_id);
  return json;
}

}  // namespace vlmamba
