#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vlmamba/io/json.h"
#include "vlmamba/study/sweep_config.h"
#include "vlmamba/study/sweep_record.h"

/// What runs left behind, read back from their folders.
namespace vlmamba::study {

/// results.json of one task.
struct TaskOutcome {
  std::string task, folder;
  std::string image = "real";  ///< what was shown
  std::optional<double> score;
  std::map<std::string, double> metrics;     ///< every number, by its name
  std::map<std::string, double> categories;  ///< the headline for kinds of questions
  int64_t num_questions = 0;
  io::Json provenance;
};

/// The losses of one stage, in means over neighbouring steps.
struct LossCurve {
  std::string stage;
  std::vector<std::pair<double, double>> points;  ///< step, loss
  double last_loss = 0;                           ///< mean over the last twentieth
};

struct RunOutcome {
  std::string cell;
  int64_t seed = 1;
  std::string folder;
  bool begun = false;  ///< is there anything yet?
  io::Json config;
  std::vector<LossCurve> curves;
  std::vector<TaskOutcome> tasks;  ///< of the last stage's last checkpoint; empty while it is not evaluated
};

/// Numbers that others published, by cell and task.
struct Published {
  std::string source;
  std::map<std::string, std::map<std::string, double>> scores;

  template <typename F>
  void visit(F& f) {
    f("source", source, "where the numbers stand");
    f("scores", scores, "by cell, then by task");
  }
};

/// Everything that a report shows.
struct Outcomes {
  std::string title, command;
  std::string folder;  ///< of the sweep; empty for single runs
  std::vector<Table> tables;
  std::vector<RecordedCell> cells;
  std::vector<RunOutcome> runs;
  Published published;

  /// The runs of a cell that were evaluated.
  std::vector<const RunOutcome*> of_cell(const std::string& cell) const;
  /// How many runs of a cell there should be.
  int64_t planned(const std::string& cell) const;
  /// Names of all tasks, in the order in which runs have them.
  std::vector<std::string> tasks() const;
};

/// One run. A folder without a run gives one that is not begun.
RunOutcome read_run(const std::string& folder);

/// The runs of a sweep, or of several folders of runs; runs that differ in nothing but the seed are one cell.
/// `published` is a file of published numbers, or empty. Throws Error (usage) for a folder that is neither.
Outcomes read_outcomes(const std::vector<std::string>& folders, const std::string& published);

}  // namespace vlmamba::study
