#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vlmamba/study/outcomes.h"
#include "vlmamba/study/statistics.h"

/// The numbers of a report's tables, and the same as CSV and Markdown.
namespace vlmamba::study {

struct SummaryScore {
  Spread ours;  ///< over the seeds that are there
  std::optional<double> published;
  bool best = false;  ///< of the table's column
};

struct SummaryRow {
  std::string label, cell;
  int64_t there = 0, planned = 0;    ///< runs
  std::vector<SummaryScore> scores;  ///< by task
  Spread loss;                       ///< of the last stage, at its end
};

struct SummaryTable {
  std::string title, note;
  std::vector<SummaryRow> rows;
};

struct Summary {
  std::vector<std::string> tasks;
  std::vector<SummaryTable> tables;
  int64_t there = 0, planned = 0;  ///< evaluated runs
  bool partial() const { return there < planned; }
};

Summary summarise(const Outcomes& outcomes);

/// One score of a task, or of one of its categories, over a cell's runs.
Spread score_of(const Outcomes& outcomes, const std::string& cell, const std::string& task);
Spread category_of(const Outcomes& outcomes, const std::string& cell, const std::string& task,
                   const std::string& category);

/// Is the task asked with blank or shuffled pictures? Such scores have no best.
bool is_control(const Outcomes& outcomes, const std::string& task);

/// All categories of a task, sorted.
std::vector<std::string> categories_of(const Outcomes& outcomes, const std::string& task);

/// "72.5 ± 1.2", without the second half for one value, "–" for none.
std::string spread_text(const Spread& spread, int count = 1);

/// A line for every number of every run: cell, seed, task, metric, value, hashes.
std::string to_csv(const Outcomes& outcomes);

std::string to_markdown(const Outcomes& outcomes, const Summary& summary);

}  // namespace vlmamba::study
