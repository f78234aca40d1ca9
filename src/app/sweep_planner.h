#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/app/run_config.h"
#include "vlmamba/study/cells.h"
#include "vlmamba/study/sweep_plan.h"

namespace vlmamba::app {

/// Reads a sweep with its overrides; `{output_dir}` has become the absolute folder. Throws Error (usage).
study::SweepConfig read_sweep(const std::string& path, const std::vector<std::string>& overrides);

/// From a sweep's config to the runs that it means.
class SweepPlanner {
 public:
  /// `settings` go to every run; `where` names the sweep in messages. Throws Error (usage) for what is wrong in any
  /// cell.
  SweepPlanner(const study::SweepConfig& config, std::vector<std::string> settings, std::string where);

  const study::Cells& cells() const { return cells_; }

  /// All runs, those that others need before them.
  std::vector<study::PlannedRun> plan() const;

 private:
  RunConfig config_of(const study::Cell& cell, int64_t seed) const;
  std::string identity(const study::Cell& cell) const;
  std::string take_out_shared(RunConfig& config, int64_t seed, std::vector<study::PlannedRun>& shared) const;

  const study::SweepConfig& config_;
  std::vector<std::string> settings_;
  std::string where_;
  study::Cells cells_;
};

/// Records of declared stages must show no pictures: with them a stage's result would depend on encoder and connector,
/// which the runs need not have in common. Throws Error (usage) for the first that does.
void expect_no_pictures(const study::SweepConfig& config, const std::vector<study::PlannedRun>& plan);

}  // namespace vlmamba::app
