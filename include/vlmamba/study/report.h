#pragma once

#include <map>
#include <string>

#include "vlmamba/eval/task.h"
#include "vlmamba/study/outcomes.h"

namespace vlmamba::study {

/// A report in three forms.
struct Report {
  std::string html;      ///< one page without scripts or other files: tables, curves, bars, answers, provenance
  std::string csv;       ///< every number of every run
  std::string markdown;  ///< the tables
};

/// Means and standard deviations over seeds, losses, scores by category, and a few questions with their pictures and
/// every cell's answers. What is not there yet is left out and said.
Report make_report(const Outcomes& outcomes, const std::map<std::string, TaskFactory>& extensions);

/// Writes it to `path` (….html), and CSV and Markdown beside it under the same name. Throws Error (kIo).
void write_report(const Report& report, const std::string& path);

}  // namespace vlmamba::study
