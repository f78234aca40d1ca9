#include "src/study/summary.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "src/study/markup.h"

namespace vlmamba::study {
namespace {

const TaskOutcome* find_task(const RunOutcome& run, const std::string& task) {
  for (const auto& outcome : run.tasks)
    if (outcome.task == task) return &outcome;
  return nullptr;
}

std::optional<double> published_for(const Outcomes& outcomes, const std::string& cell, const std::string& task) {
  const auto row = outcomes.published.scores.find(cell);
  if (row == outcomes.published.scores.end()) return std::nullopt;
  const auto score = row->second.find(task);
  return score == row->second.end() ? std::nullopt : std::optional(score->second);
}

SummaryRow row_of(const Outcomes& outcomes, const TableRow& row, const std::vector<std::string>& tasks) {
  const auto runs = outcomes.of_cell(row.cell);
  SummaryRow result{row.label, row.cell, static_cast<int64_t>(runs.size()), outcomes.planned(row.cell), {}, {}};
  for (const auto& task : tasks)
    result.scores.push_back({score_of(outcomes, row.cell, task), published_for(outcomes, row.cell, task)});
  std::vector<double> losses;
  for (const RunOutcome* run : runs)
    if (!run->curves.empty() && !run->curves.back().points.empty()) losses.push_back(run->curves.back().last_loss);
  result.loss = spread_of(losses);
  return result;
}

void mark_best(const Outcomes& outcomes, const std::vector<std::string>& tasks, SummaryTable& table) {
  if (table.rows.size() < 2) return;
  for (size_t task = 0; task < tasks.size(); ++task) {
    if (is_control(outcomes, tasks[task])) continue;
    SummaryScore* best = nullptr;
    for (auto& row : table.rows)
      if (row.scores[task].ours.count > 0 && (!best || row.scores[task].ours.mean > best->ours.mean))
        best = &row.scores[task];
    if (best) best->best = true;
  }
}

// All digits: a CSV is for computing.
std::string exact(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

std::string text_in(const io::Json& provenance, const char* key) {
  const io::Json* value = provenance.find(key);
  return value && value->is_string() ? value->as_string() : "";
}

std::string markdown_score(const SummaryScore& score) {
  std::string text = spread_text(score.ours);
  if (score.best) text = "**" + text + "**";
  if (score.published) text += " (paper " + decimals(*score.published, 1) + ")";
  return text;
}

std::string markdown_row(const std::vector<std::string>& cells) {
  std::string line = "|";
  for (const auto& cell : cells) line += " " + cell + " |";
  return line + "\n";
}

std::string markdown_table(const SummaryTable& table, const std::vector<std::string>& tasks) {
  std::vector<std::string> head{markdown_cell(table.title)}, rule{"---"};
  for (const auto& task : tasks) head.push_back(markdown_cell(task)), rule.push_back("---:");
  for (const char* column : {"loss", "runs"}) head.push_back(column), rule.push_back("---:");
  std::string text = markdown_row(head) + markdown_row(rule);
  for (const auto& row : table.rows) {
    std::vector<std::string> cells{markdown_cell(row.label)};
    for (const auto& score : row.scores) cells.push_back(markdown_score(score));
    cells.push_back(spread_text(row.loss, 3));
    cells.push_back(std::to_string(row.there) + (row.there < row.planned ? " of " + std::to_string(row.planned) : ""));
    text += markdown_row(cells);
  }
  return text + (table.note.empty() ? "" : "\n" + table.note + "\n");
}

std::string markdown_categories(const Outcomes& outcomes, const std::string& task) {
  const auto categories = categories_of(outcomes, task);
  if (categories.empty()) return "";
  std::vector<std::string> head{"cell"}, rule{"---"};
  for (const auto& category : categories) head.push_back(markdown_cell(category)), rule.push_back("---:");
  std::string text = "\n## " + task + " by category\n\n" + markdown_row(head) + markdown_row(rule);
  for (const auto& cell : outcomes.cells) {
    if (outcomes.of_cell(cell.name).empty()) continue;
    std::vector<std::string> cells{markdown_cell(cell.name)};
    for (const auto& category : categories)
      cells.push_back(spread_text(category_of(outcomes, cell.name, task, category)));
    text += markdown_row(cells);
  }
  return text;
}

}  // namespace

Spread score_of(const Outcomes& outcomes, const std::string& cell, const std::string& task) {
  std::vector<double> values;
  for (const RunOutcome* run : outcomes.of_cell(cell))
    if (const TaskOutcome* outcome = find_task(*run, task); outcome && outcome->score)
      values.push_back(*outcome->score);
  return spread_of(values);
}

Spread category_of(const Outcomes& outcomes, const std::string& cell, const std::string& task,
                   const std::string& category) {
  std::vector<double> values;
  for (const RunOutcome* run : outcomes.of_cell(cell))
    if (const TaskOutcome* outcome = find_task(*run, task); outcome && outcome->categories.contains(category))
      values.push_back(outcome->categories.at(category));
  return spread_of(values);
}

std::vector<std::string> categories_of(const Outcomes& outcomes, const std::string& task) {
  std::set<std::string> names;
  for (const auto& run : outcomes.runs)
    if (const TaskOutcome* outcome = find_task(run, task))
      for (const auto& [name, value] : outcome->categories) names.insert(name);
  return {names.begin(), names.end()};
}

bool is_control(const Outcomes& outcomes, const std::string& task) {
  for (const auto& run : outcomes.runs)
    if (const TaskOutcome* outcome = find_task(run, task)) return outcome->image != "real";
  return false;
}

std::string spread_text(const Spread& spread, int count) {
  if (spread.count == 0) return "–";
  return decimals(spread.mean, count) + (spread.count > 1 ? " ± " + decimals(spread.deviation, count) : "");
}

Summary summarise(const Outcomes& outcomes) {
  Summary summary;
  summary.tasks = outcomes.tasks();
  for (const auto& table : outcomes.tables) {
    SummaryTable result{table.title, table.note, {}};
    for (const auto& row : table.rows) result.rows.push_back(row_of(outcomes, row, summary.tasks));
    mark_best(outcomes, summary.tasks, result);
    summary.tables.push_back(std::move(result));
  }
  summary.planned = static_cast<int64_t>(outcomes.runs.size());
  summary.there = std::count_if(outcomes.runs.begin(), outcomes.runs.end(),
                                [](const RunOutcome& run) { return !run.tasks.empty(); });
  return summary;
}

std::string to_csv(const Outcomes& outcomes) {
  std::string csv = "cell,seed,task,metric,value,checkpoint_sha256,config_sha256\n";
  for (const auto& run : outcomes.runs)
    for (const auto& task : run.tasks) {
      const auto line = [&](const std::string& metric, double value) {
        csv += csv_cell(run.cell) + "," + std::to_string(run.seed) + "," + csv_cell(task.task) + "," +
               csv_cell(metric) + "," + exact(value) + "," + text_in(task.provenance, "checkpoint_sha256") + "," +
               text_in(task.provenance, "config_sha256") + "\n";
      };
      if (task.score) line("score", *task.score);
      for (const auto& [name, value] : task.metrics) line(name, value);
    }
  return csv;
}

std::string to_markdown(const Outcomes& outcomes, const Summary& summary) {
  std::string text = "# " + outcomes.title + "\n";
  if (summary.partial())
    text += "\n**Partial:** " + std::to_string(summary.there) + " of " + std::to_string(summary.planned) +
            " runs are evaluated so far.\n";
  text +=
      "\nMean ± standard deviation over seeds; the best of a column in bold; loss: of the last stage, at its end.\n";
  for (const auto& table : summary.tables) text.append("\n").append(markdown_table(table, summary.tasks));
  if (!outcomes.published.source.empty()) text += "\nThe paper's numbers: " + outcomes.published.source + "\n";
  for (const auto& task : summary.tasks) text += markdown_categories(outcomes, task);
  if (!outcomes.command.empty()) text += "\n    " + outcomes.command + "\n";
  return text;
}

}  // namespace vlmamba::study
