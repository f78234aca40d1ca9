#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/app/run_config.h"

/// How a run goes on: where, and with which changes of its config.
namespace vlmamba::app {

/// Where training starts in the folder of a run.
struct StartingPoint {
  size_t stage = 0;             ///< index into config.stages: the last one that was begun, or the first of the chosen
  std::optional<int64_t> step;  ///< of its newest whole checkpoint; none: it is fresh
  std::string checkpoint;       ///< its folder, or that of the stage before a fresh one; empty: there is none

  bool has_checkpoint() const { return !checkpoint.empty(); }
};

std::string checkpoints_folder(const RunConfig& config, size_t stage);

/// Looks for the newest whole checkpoint of the stages `chosen`, reading each candidate once; those that are passed
/// over are named. Throws Error (weights) where a stage has only damaged ones, Error (usage) where the stage before a
/// fresh one is missing though an earlier one is there.
StartingPoint find_start(const RunConfig& config, const std::vector<size_t>& chosen);

/// Compares what a run was trained with and what it is to go on with. Returns the changes, a line each. Throws Error
/// (usage) that lists what a run cannot change: everything but paths, logs, checkpoints, the loader's threads, how a
/// step is cut into micro-batches, the evaluation, and stages that were not begun.
std::vector<std::string> check_changes(const RunConfig& before, const RunConfig& after);

}  // namespace vlmamba::app
