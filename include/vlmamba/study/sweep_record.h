#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/study/sweep_config.h"

namespace vlmamba::study {

struct RecordedCell {
  std::string name;
  std::vector<std::string> settings;

  template <typename F>
  void visit(F& f) {
    f("name", name, "");
    f("settings", settings, "");
  }
};

/// A run of a sweep, below the sweep's folder.
struct RecordedRun {
  std::string cell;
  int64_t seed = 1;
  std::string folder;

  template <typename F>
  void visit(F& f) {
    f("cell", cell, "");
    f("seed", seed, "");
    f("folder", folder, "");
  }
};

/// What a sweep's folder keeps for its report, in sweep.json: which runs there should be and how they are shown.
struct SweepRecord {
  std::string title, command, published;
  std::vector<RecordedCell> cells;
  std::vector<RecordedRun> runs;
  std::vector<Table> tables;

  template <typename F>
  void visit(F& f) {
    f("title", title, "");
    f("command", command, "");
    f("published", published, "");
    f("cells", cells, "");
    f("runs", runs, "");
    f("tables", tables, "");
  }
};

}  // namespace vlmamba::study
