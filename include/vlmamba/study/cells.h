#pragma once

#include <functional>
#include <string>
#include <vector>

#include "vlmamba/study/sweep_config.h"

namespace vlmamba::study {

/// One combination of settings; runs once for every seed.
struct Cell {
  std::string name;
  std::vector<std::string> settings;  ///< key.path=value, in the order in which they apply
  std::string base;                   ///< run config
};

/// The cells of a sweep and the tables that show them.
struct Cells {
  std::vector<Cell> cells;
  std::vector<Table> tables;
};

/// `key.path=value` for every leaf of a section `set`.
std::vector<std::string> settings_of(const io::Json& set);

/// Checks a sweep and lists its cells. Cells of equal `identity` (what they come to, resolved) are one, under the name
/// of the first. Throws Error (usage) that lists everything wrong in `where`.
Cells make_cells(const SweepConfig& config, const std::function<std::string(const Cell&)>& identity,
                 const std::string& where);

}  // namespace vlmamba::study
