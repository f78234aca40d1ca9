#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/json.h"

namespace vlmamba::study {

/// A run that a sweep makes: a cell with a seed, or the first stages that several of them share.
struct PlannedRun {
  std::string name;  ///< for the user: "scan_cross, seed 2"
  std::string cell;  ///< empty: stages that others share
  int64_t seed = 1;
  std::string folder;
  io::Json config;  ///< resolved; a path that equals `weights_from` stands for that run's last checkpoint

  std::string weights_from;  ///< folder of the run whose parts it starts from; empty: none
  std::string links_from;    ///< folder of the run whose first stages are also its own; empty: none
  size_t linked_stages = 0;  ///< how many
};

/// Trains once what equal beginnings of runs have in common.
///
/// The result of a stage depends on the seed, the model, tokenizer, prompt and picture processor, and on this stage and
/// all before it; where these are equal in two runs, so is the result, bit for bit. Such stages become a run of their
/// own below `folder`, from which the others are linked. A run comes after those it needs.
std::vector<PlannedRun> share_equal_stages(std::vector<PlannedRun> runs, const std::string& folder);

/// What a stage's result depends on, as a hash; `stages` of them.
std::string beginning_hash(const io::Json& config, size_t stages);

/// A folder name for the first `stages` of a run, the same in every sweep: "align_1f3a9c2e/seed_2".
std::string shared_name(const io::Json& config, size_t stages);

/// The plan for people: a line a run, with what it shares.
std::string describe(const std::vector<PlannedRun>& plan);

}  // namespace vlmamba::study
