#include "src/app/sweep_planner.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "vlmamba/data/record_file.h"
#include "vlmamba/io/config.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;
using study::Cell;
using study::PlannedRun;
using study::SweepConfig;

io::Json with_folder(const io::Json& json, const std::string& folder) {
  constexpr std::string_view kPlace = "{output_dir}";
  if (json.is_string()) {
    std::string text = json.as_string();
    for (size_t at = 0; (at = text.find(kPlace, at)) != std::string::npos; at += folder.size())
      text.replace(at, kPlace.size(), folder);
    return text;
  }
  if (json.is_array()) {
    io::Json array = io::Json::array();
    for (const auto& item : json.items()) array.push(with_folder(item, folder));
    return array;
  }
  io::Json object = json;
  for (const auto& [key, value] : json.members()) object.set(key, with_folder(value, folder));
  return object;
}

}  // namespace

SweepConfig read_sweep(const std::string& path, const std::vector<std::string>& overrides) {
  SweepConfig config = io::read_config<SweepConfig>(path, overrides);
  if (config.output_dir.empty()) return config;  // told with what else is wrong
  config.output_dir = fs::absolute(config.output_dir).lexically_normal().string();
  return io::from_json<SweepConfig>(with_folder(io::write_config(config), config.output_dir), path);
}

SweepPlanner::SweepPlanner(const SweepConfig& config, std::vector<std::string> settings, std::string where)
    : config_(config), settings_(std::move(settings)), where_(std::move(where)) {
  cells_ = study::make_cells(
      config_, [this](const Cell& cell) { return identity(cell); }, where_);
}

std::vector<PlannedRun> SweepPlanner::plan() const {
  std::vector<PlannedRun> shared, runs;
  for (const int64_t seed : config_.seeds)
    for (const auto& cell : cells_.cells) {
      RunConfig config = config_of(cell, seed);
      const std::string name = cell.name + ", seed " + std::to_string(seed);
      PlannedRun run{name, cell.name, seed, config.output_dir, {}, "", "", 0};
      if (!config_.shared_stages.empty()) run.weights_from = take_out_shared(config, seed, shared);
      run.config = io::write_config(config);
      runs.push_back(std::move(run));
    }
  std::vector<PlannedRun> plan = std::move(shared);
  for (auto& run : study::share_equal_stages(std::move(runs), config_.output_dir + "/shared"))
    plan.push_back(std::move(run));
  return plan;
}

RunConfig SweepPlanner::config_of(const Cell& cell, int64_t seed) const {
  auto settings = study::settings_of(config_.set);
  for (const auto* more : {&settings_, &cell.settings}) settings.insert(settings.end(), more->begin(), more->end());
  settings.push_back("seed=" + std::to_string(seed));
  settings.push_back("output_dir=" + config_.output_dir + "/cells/" + cell.name + "/seed_" + std::to_string(seed));
  try {
    RunConfig config = read_run_config(cell.base, settings);
    if (config.stages.empty()) throw Error(ExitCode::kUsage, "stages", "expected a stage to train, got none");
    return config;
  } catch (const Error& error) {
    throw Error(error.code(), "cell " + cell.name + " of " + where_ + ":\n" + error.what());
  }
}

std::string SweepPlanner::identity(const Cell& cell) const {
  RunConfig config = config_of(cell, config_.seeds.front());
  config.output_dir.clear();
  return io::write_config(config).to_string();
}

// Moves the declared stages out of a run into one that has only their parts in common with it. Returns its folder.
std::string SweepPlanner::take_out_shared(RunConfig& config, int64_t seed, std::vector<PlannedRun>& shared) const {
  RunConfig first =
      config_of({"base", {}, config_.base}, seed);  // the other parts are the base's, since they do not matter
  first.tokenizer = config.tokenizer;
  first.prompt = config.prompt;
  first.eval.tasks.clear();
  first.stages.clear();
  std::set<std::string> parts;
  for (const auto& name : config_.shared_stages) {
    if (config.stages.size() < 2 || config.stages.front().name != name)
      throw Error(ExitCode::kUsage, where_,
                  "shared_stages: expected the first stages of the run and one after them, got " + name);
    first.stages.push_back(config.stages.front());
    for (const auto& [part, how] : config.stages.front().trainable.parts) parts.insert(part);
    config.stages.erase(config.stages.begin());
  }
  if (parts.contains("vision_encoder")) first.image_processor = config.image_processor;
  if (parts.contains("vision_encoder")) first.model.vision_encoder = config.model.vision_encoder;
  if (parts.contains("connector")) first.model.connector = config.model.connector;
  if (parts.contains("language_model")) first.model.language_model = config.model.language_model;
  const std::string folder =
      config_.output_dir + "/shared/" + study::shared_name(io::write_config(first), first.stages.size());
  if (parts.contains("vision_encoder")) config.model.vision_encoder.pretrained = folder;
  if (parts.contains("connector")) config.model.connector.pretrained = folder;
  if (parts.contains("language_model")) config.model.language_model.pretrained = folder;
  const auto same = [&](const PlannedRun& run) { return run.folder == folder; };
  if (std::none_of(shared.begin(), shared.end(), same)) {
    first.output_dir = folder;
    const std::string name = "shared " + first.stages.back().name + ", seed " + std::to_string(seed);
    shared.push_back({name, "", seed, folder, io::write_config(first), "", "", 0});
  }
  return folder;
}

namespace {

void expect_no_pictures(const std::string& records, const std::string& stage) {
  const RecordFile file(records);
  for (int64_t i = 0; i < file.size(); ++i)
    if (file.entry(i).pictures > 0)
      throw Error(ExitCode::kUsage, "shared_stages",
                  "expected records without pictures in stage " + stage + ", got one with a picture: " +
                      file.read(i).id + " of " + records + "; a stage with pictures depends on the whole model");
}

}  // namespace

void expect_no_pictures(const SweepConfig& config, const std::vector<PlannedRun>& plan) {
  std::set<std::string> seen;
  for (const auto& run : plan) {
    if (!run.cell.empty() || config.shared_stages.empty()) continue;
    for (const auto& stage : io::from_json<RunConfig>(run.config, run.folder).stages) {
      if (std::find(config.shared_stages.begin(), config.shared_stages.end(), stage.name) == config.shared_stages.end())
        continue;
      for (const auto& set : stage.data.sets)
        if (seen.insert(set.records).second) expect_no_pictures(set.records, stage.name);
    }
  }
}

}  // namespace vlmamba::app
