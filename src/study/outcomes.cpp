#include "vlmamba/study/outcomes.h"

#include <algorithm>
#include <filesystem>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/json_stream.h"
#include "vlmamba/study/run_folder.h"

namespace vlmamba::study {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr size_t kCurvePoints = 150;
constexpr size_t kLastShare = 20;

void collect(const Json& json, const std::string& prefix, std::map<std::string, double>& metrics) {
  for (const auto& [key, value] : json.members()) {
    if (value.is_number()) metrics[prefix + key] = value.as_number();
    if (value.is_object()) collect(value, prefix + key + "/", metrics);
  }
}

bool names_categories(std::string_view prefix) {
  return prefix.ends_with("_by_category") || prefix == "perAnswerType" || prefix == "per_structural" ||
         prefix == "per_task" || prefix == "capability";
}

// The benchmarks name their kinds of questions each in its own way.
std::map<std::string, double> categories_in(const std::map<std::string, double>& metrics) {
  std::map<std::string, double> categories;
  for (const auto& [name, value] : metrics) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos) continue;
    if (names_categories(name.substr(0, slash))) categories[name.substr(slash + 1)] = value;
    if (name.substr(slash) == "/f1") categories[name.substr(0, slash)] = 100 * value;
  }
  return categories;
}

TaskOutcome read_task(const std::string& folder, const std::string& task) {
  const Json json = io::read_json(folder + "/results.json", ExitCode::kData);
  TaskOutcome outcome;
  outcome.task = task;
  outcome.folder = folder;
  if (const Json* image = json.find("image"); image && image->is_string()) outcome.image = image->as_string();
  if (const Json* score = json.find("score"); score && score->is_number()) outcome.score = score->as_number();
  if (const Json* metrics = json.find("metrics")) collect(*metrics, "", outcome.metrics);
  if (const Json* count = json.find("num_questions"); count && count->is_number())
    outcome.num_questions = static_cast<int64_t>(count->as_number());
  if (const Json* provenance = json.find("provenance")) outcome.provenance = *provenance;
  outcome.categories = categories_in(outcome.metrics);
  return outcome;
}

LossCurve read_curve(const std::string& run, const std::string& stage) {
  LossCurve curve{stage, {}, 0};
  const std::string path = run + "/" + stage + "/metrics.jsonl";
  if (!fs::exists(path)) return curve;
  std::string text = io::read_file(path, ExitCode::kData);
  text.resize(text.rfind('\n') + 1);  // a run that is being written may end in half a line
  std::vector<std::pair<double, double>> all;
  io::for_each_line(text, path, ExitCode::kData, [&](const Json& line, int64_t) {
    const Json* step = line.find("step");
    const Json* loss = line.find("loss");
    if (step && loss && step->is_number() && loss->is_number()) all.emplace_back(step->as_number(), loss->as_number());
  });
  if (all.empty()) return curve;
  const size_t bin = (all.size() + kCurvePoints - 1) / kCurvePoints;
  for (size_t first = 0; first < all.size(); first += bin) {
    const size_t end = std::min(all.size(), first + bin);
    double step = 0, loss = 0;
    for (size_t i = first; i < end; ++i) step += all[i].first, loss += all[i].second;
    const auto count = static_cast<double>(end - first);
    curve.points.emplace_back(step / count, loss / count);
  }
  const size_t last = std::max<size_t>(1, all.size() / kLastShare);
  for (size_t i = all.size() - last; i < all.size(); ++i) curve.last_loss += all[i].second / static_cast<double>(last);
  return curve;
}

std::string absolute_folder(const std::string& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).string();
}

Json without_seed(Json config) {
  config.set("seed", Json());
  config.set("output_dir", Json());
  return config;
}

Outcomes from_sweep(const std::string& folder) {
  const auto record = io::read_config<SweepRecord>(folder + "/sweep.json", {});
  Outcomes outcomes{record.title, record.command, absolute_folder(folder), record.tables, record.cells, {}, {}};
  if (!record.published.empty()) outcomes.published = io::read_config<Published>(record.published, {});
  for (const auto& planned : record.runs) {
    if (planned.cell.empty()) continue;
    RunOutcome run = read_run((fs::path(folder) / planned.folder).lexically_normal().string());
    run.cell = planned.cell;
    run.seed = planned.seed;
    outcomes.runs.push_back(std::move(run));
  }
  return outcomes;
}

Outcomes from_runs(const std::vector<std::string>& folders) {
  Outcomes outcomes{"Runs", "", "", {{"runs", "", {}}}, {}, {}, {}};
  std::vector<std::pair<std::string, std::string>> cells;  // config without seed, name
  for (const auto& folder : folders) {
    RunOutcome run = read_run(folder);
    if (!run.begun)
      throw Error(ExitCode::kUsage, folder, "expected a run or a sweep (config.json, sweep.json), got neither");
    const std::string config = without_seed(run.config).to_string();
    auto cell = std::find_if(cells.begin(), cells.end(), [&](const auto& known) { return known.first == config; });
    if (cell == cells.end()) {
      fs::path name = fs::path(run.folder).filename();
      for (fs::path at = fs::path(run.folder).parent_path();
           std::any_of(cells.begin(), cells.end(), [&](const auto& known) { return known.second == name; });
           at = at.parent_path())
        name = at.has_filename() ? at.filename() / name : fs::path(name.string() + "'");
      cell = cells.insert(cells.end(), {config, name.string()});
      outcomes.cells.push_back({name.string(), {}});
      outcomes.tables[0].rows.push_back({name.string(), name.string()});
    }
    run.cell = cell->second;
    outcomes.runs.push_back(std::move(run));
  }
  return outcomes;
}

}  // namespace

std::vector<const RunOutcome*> Outcomes::of_cell(const std::string& cell) const {
  std::vector<const RunOutcome*> found;
  for (const auto& run : runs)
    if (run.cell == cell && !run.tasks.empty()) found.push_back(&run);
  return found;
}

int64_t Outcomes::planned(const std::string& cell) const {
  return std::count_if(runs.begin(), runs.end(), [&](const RunOutcome& run) { return run.cell == cell; });
}

std::vector<std::string> Outcomes::tasks() const {
  std::vector<std::string> names;
  for (const auto& run : runs)
    for (const auto& task : run.tasks)
      if (std::find(names.begin(), names.end(), task.task) == names.end()) names.push_back(task.task);
  return names;
}

RunOutcome read_run(const std::string& folder) {
  RunOutcome run;
  run.folder = absolute_folder(folder);
  const std::string path = run.folder + "/config.json";
  if (!fs::exists(path)) return run;
  run.begun = true;
  run.config = io::read_json(path, ExitCode::kData);
  if (const Json* seed = run.config.find("seed"); seed && seed->is_integer()) run.seed = seed->as_integer();
  const auto stages = stage_names(run.config);
  for (const auto& stage : stages) run.curves.push_back(read_curve(run.folder, stage));
  const auto end = stages.empty() ? std::nullopt : finished_stage(run.folder, stages.back());
  if (!end) return run;
  const std::string evaluation = evaluation_folder(run.folder, stages.back(), *end);
  for (const auto& task : task_names(run.config))
    if (fs::exists(evaluation + "/" + task + "/results.json"))
      run.tasks.push_back(read_task(evaluation + "/" + task, task));
  return run;
}

Outcomes read_outcomes(const std::vector<std::string>& folders, const std::string& published) {
  const bool sweep = folders.size() == 1 && fs::exists(folders[0] + "/sweep.json");
  Outcomes outcomes = sweep ? from_sweep(folders[0]) : from_runs(folders);
  if (!published.empty()) outcomes.published = io::read_config<Published>(published, {});
  return outcomes;
}

}  // namespace vlmamba::study
