#include "vlmamba/study/sweep_plan.h"

#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "vlmamba/io/sha256.h"
#include "vlmamba/study/run_folder.h"

namespace vlmamba::study {
namespace {

using io::Json;

constexpr size_t kShownHash = 8;

Json with_stages(const Json& config, size_t stages) {
  Json kept = Json::array();
  for (size_t i = 0; i < stages; ++i) kept.push(config.find("stages")->items()[i]);
  Json result = config;
  result.set("stages", std::move(kept));
  return result;
}

// The first stages of a run, as a run of their own that is not evaluated.
PlannedRun beginning(const PlannedRun& run, size_t stages, const std::string& folder) {
  PlannedRun shared = run;
  const std::string last = stage_names(run.config)[stages - 1];
  shared.cell.clear();
  shared.name = "shared " + last + ", seed " + std::to_string(run.seed);
  shared.folder = folder + "/" + shared_name(run.config, stages);
  shared.config = with_stages(run.config, stages);
  shared.config.set("output_dir", shared.folder);
  Json eval = *shared.config.find("eval");
  eval.set("tasks", Json::array());
  shared.config.set("eval", std::move(eval));
  return shared;
}

class Sharing {
 public:
  Sharing(const std::vector<PlannedRun>& runs, std::string folder) : folder_(std::move(folder)) {
    for (const auto& run : runs)
      for (size_t stages = 1; stages <= stage_names(run.config).size(); ++stages)
        ++users_[beginning_hash(run.config, stages)];
  }

  // Adds the run behind what it shares.
  void add(PlannedRun run) {
    link(run, stage_names(run.config).size(), 1);
    plan.push_back(std::move(run));
  }

  std::vector<PlannedRun> plan;

 private:
  // Links as many of the first `most` stages as more than `least` runs have in common.
  void link(PlannedRun& run, size_t most, int least) {
    for (size_t stages = most; stages > 0; --stages) {
      const std::string hash = beginning_hash(run.config, stages);
      const int users = users_[hash];
      if (users <= least) continue;
      PlannedRun shared = beginning(run, stages, folder_);
      run.links_from = shared.folder;
      run.linked_stages = stages;
      if (!made_.insert(hash).second) return;
      shared.links_from.clear();
      link(shared, stages - 1, users);
      plan.push_back(std::move(shared));
      return;
    }
  }

  std::string folder_;
  std::map<std::string, int> users_;
  std::set<std::string> made_;
};

}  // namespace

std::string beginning_hash(const Json& config, size_t stages) {
  Json depends = with_stages(config, stages);
  depends.set("output_dir", Json());
  depends.set("eval", Json());
  return io::sha256(depends.to_string());
}

std::string shared_name(const Json& config, size_t stages) {
  Json of_any_seed = config;
  of_any_seed.set("seed", 0);
  return stage_names(config)[stages - 1] + "_" + beginning_hash(of_any_seed, stages).substr(0, kShownHash) + "/seed_" +
         config.find("seed")->to_string();
}

std::vector<PlannedRun> share_equal_stages(std::vector<PlannedRun> runs, const std::string& folder) {
  Sharing sharing(runs, folder);
  for (auto& run : runs) sharing.add(std::move(run));
  return std::move(sharing.plan);
}

std::string describe(const std::vector<PlannedRun>& plan) {
  std::map<std::string, std::string> names;
  for (const auto& run : plan) names[run.folder] = run.name;
  std::string text;
  for (const auto& run : plan) {
    text += run.name + "\n    folder  " + run.folder + "\n";
    if (!run.weights_from.empty()) text += "    starts from  " + names[run.weights_from] + "\n";
    const auto stages = stage_names(run.config);
    std::string linked, trained;
    for (size_t i = 0; i < stages.size(); ++i) (i < run.linked_stages ? linked : trained) += " " + stages[i];
    if (!linked.empty()) text += "    shares " + linked + ", from " + names[run.links_from] + "\n";
    if (!trained.empty()) text += "    trains " + trained + "\n";
    std::string tasks;
    for (const auto& task : task_names(run.config)) tasks += " " + task;
    if (!tasks.empty()) text += "    asks   " + tasks + "\n";
  }
  return text;
}

}  // namespace vlmamba::study
