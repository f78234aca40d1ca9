#include <algorithm>
#include <cstdio>
#include <set>

#include "vlmamba/eval/evaluator.h"

namespace vlmamba {

std::string to_table(const std::vector<TaskResult>& results) {
  std::set<std::string> categories;
  size_t first_column = 10;
  for (const auto& result : results)
    for (const auto& [category, score] : result.by_category) {
      categories.insert(category);
      first_column = std::max(first_column, category.size());
    }
  std::string table;
  const auto cell = [&](const std::string& text, size_t width) {
    table += std::string(width - std::min(width, text.size()), ' ') + text;
  };
  const auto row = [&](const std::string& name, const auto& score_of) {
    table += "  " + name + std::string(first_column - name.size(), ' ');
    for (const auto& result : results) {
      char text[16] = "-";
      if (const std::optional<double> score = score_of(result)) std::snprintf(text, sizeof text, "%.1f", *score);
      cell(text, result.task.size() + 3);
    }
    table += "\n";
  };
  table += "  score" + std::string(first_column - 5, ' ');
  for (const auto& result : results) cell(result.task, result.task.size() + 3);
  table += "\n";
  for (const auto& category : categories)
    row(category, [&](const TaskResult& result) -> std::optional<double> {
      const auto found = result.by_category.find(category);
      return found == result.by_category.end() ? std::nullopt : std::optional(found->second);
    });
  row("all", [](const TaskResult& result) { return result.score; });
  return table;
}

}  // namespace vlmamba
