#include "src/study/page.h"

#include <algorithm>
#include <set>

#include "src/study/charts.h"
#include "src/study/markup.h"
#include "src/study/page_style.h"
#include "vlmamba/core/version.h"

namespace vlmamba::study {
namespace {

using io::Json;

constexpr size_t kShownHash = 12;

std::string element(const std::string& tag, const std::string& inner, const std::string& style = "") {
  return "<" + tag + (style.empty() ? "" : " class=\"" + style + "\"") + ">" + inner + "</" +
         tag.substr(0, tag.find(' ')) + ">";
}

std::string text_in(const Json& json, const char* key) {
  const Json* value = json.find(key);
  return value && value->is_string() ? value->as_string() : "";
}

std::string score_cell(const SummaryScore& score) {
  if (score.ours.count == 0 && !score.published) return element("td", "–");
  std::string inner = score.ours.count == 0 ? "–" : decimals(score.ours.mean, 1);
  if (score.ours.count > 1) inner += " <span class=\"pm\">± " + decimals(score.ours.deviation, 1) + "</span>";
  if (score.published) inner += "<span class=\"paper\">paper " + decimals(*score.published, 1) + "</span>";
  return element("td", inner, score.best ? "best" : "");
}

std::string table_of(const SummaryTable& table, const std::vector<std::string>& tasks) {
  std::string head = element("th", "");
  for (const auto& task : tasks) head += element("th", escaped(task));
  std::string body =
      element("thead", element("tr", head + element("th", "loss") + element("th", "runs"))) + "<tbody>\n";
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const auto& row = table.rows[i];
    std::string cells = "<td><i class=\"dot s" + std::to_string(i % 8) + "\"></i>" + escaped(row.label);
    if (row.cell == "base") cells += element("span", "base", "tag");
    cells += "</td>";
    for (const auto& score : row.scores) cells += score_cell(score);
    cells += element("td", escaped(spread_text(row.loss, 3)));
    cells += element("td",
                     std::to_string(row.there) + (row.there < row.planned ? " of " + std::to_string(row.planned) : ""));
    body += element("tr", cells) + "\n";
  }
  return element("div", element("table", body + "</tbody>"), "scroll") + "\n";
}

std::string bars_of(const Outcomes& outcomes, const SummaryTable& table, const std::string& task) {
  const auto categories = categories_of(outcomes, task);
  if (categories.size() < 2 || is_control(outcomes, task)) return "";
  std::vector<BarSeries> series;
  for (const auto& row : table.rows) {
    BarSeries bars{row.label, {}};
    for (const auto& category : categories) bars.values.push_back(category_of(outcomes, row.cell, task, category));
    series.push_back(std::move(bars));
  }
  const std::string label = task + " by kind of question";
  const std::string chart = bar_chart(label, categories, series);
  if (chart.empty()) return "";
  return element("figure", element("figcaption", escaped(label) + ", mean and one standard deviation") + "\n" + chart) +
         "\n";
}

// The seeds' curves and their mean.
LineSeries line_of(const Outcomes& outcomes, const SummaryRow& row, const std::string& stage) {
  LineSeries line{row.label, {}, {}};
  for (const auto& run : outcomes.runs) {
    if (run.cell != row.cell) continue;
    for (const auto& curve : run.curves)
      if (curve.stage == stage && !curve.points.empty()) line.single.push_back(curve.points);
  }
  if (line.single.empty()) return line;
  std::vector<Points> whole;  // without those of runs that are still on their way
  double last_step = 0;
  for (const auto& points : line.single) last_step = std::max(last_step, points.back().first);
  for (const auto& points : line.single)
    if (points.back().first == last_step) whole.push_back(points);
  for (size_t i = 0; i < whole[0].size(); ++i) {
    double loss = 0;
    for (const auto& points : whole) loss += points[i].second;
    line.mean.emplace_back(whole[0][i].first, loss / static_cast<double>(whole.size()));
  }
  if (line.single.size() == 1) line.single.clear();
  return line;
}

std::string curves_of(const Outcomes& outcomes, const SummaryTable& table) {
  std::vector<std::string> stages;
  for (const auto& run : outcomes.runs)
    for (const auto& curve : run.curves)
      if (std::find(stages.begin(), stages.end(), curve.stage) == stages.end()) stages.push_back(curve.stage);
  std::string figures;
  for (const auto& stage : stages) {
    std::vector<LineSeries> series;
    for (const auto& row : table.rows) series.push_back(line_of(outcomes, row, stage));
    const std::string chart = line_chart("loss of stage " + stage, "step", series);
    if (!chart.empty())
      figures += element("figure", element("figcaption", "loss, stage " + escaped(stage)) + "\n" + chart) + "\n";
  }
  return figures;
}

std::string section_of(const Outcomes& outcomes, const Summary& summary, const SummaryTable& table) {
  std::string html = element("h2", escaped(table.title)) + "\n" + table_of(table, summary.tasks);
  if (!table.note.empty()) html += element("p", escaped(table.note), "small") + "\n";
  std::string figures;
  for (const auto& task : summary.tasks) figures += bars_of(outcomes, table, task);
  if (const std::string curves = curves_of(outcomes, table); !curves.empty())
    figures += element("div", "\n" + curves, "stack") + "\n";
  std::vector<std::string> labels;
  for (const auto& row : table.rows) labels.push_back(row.label);
  if (!figures.empty()) html += legend(labels) + element("div", "\n" + figures, "charts") + "\n";
  return element("section", "\n" + html) + "\n";
}

std::string sample_of(const Sample& sample) {
  std::string inner;
  if (!sample.picture.empty())
    inner += "<img" + std::string(sample.small ? " class=\"pixels\"" : "") +
             " alt=\"the picture that is asked about\" src=\"" + sample.picture + "\">\n";
  inner += element("div", escaped(sample.question), "question") + "\n";
  std::string list;
  if (!sample.truth.empty()) list += element("dt", "right answer") + element("dd", escaped(sample.truth)) + "\n";
  for (const auto& answer : sample.answers) {
    std::string style, mark;
    if (answer.credit) style = *answer.credit >= 0.5 ? "right" : "wrong", mark = *answer.credit >= 0.5 ? " ✓" : " ✗";
    list += element("dt", escaped(answer.cell)) + element("dd", escaped(answer.text) + mark, style) + "\n";
  }
  return element("div", "\n" + inner + element("dl", "\n" + list) + "\n", "sample") + "\n";
}

std::string samples_section(const std::vector<TaskSamples>& samples) {
  std::string html;
  for (const auto& task : samples) {
    if (task.samples.empty() && task.missing.empty()) continue;
    html += element("h3", escaped(task.task)) + "\n";
    if (!task.missing.empty()) html += element("p", "No questions to show: " + escaped(task.missing), "small") + "\n";
    std::string cards;
    for (const auto& sample : task.samples) cards += sample_of(sample);
    if (!cards.empty()) html += element("div", "\n" + cards, "samples") + "\n";
  }
  if (html.empty()) return "";
  return "<section>\n" + element("h2", "What was answered") + "\n" +
         element("p", "Questions on which the cells differ, where there are any; the answers of each cell's first run.",
                 "small") +
         "\n" + html + "</section>\n";
}

std::string short_hash(const std::string& hash) {
  return hash.empty() ? "–"
                      : "<code title=\"" + escaped(hash) + "\">" + escaped(hash.substr(0, kShownHash)) + "</code>";
}

// A command as it reads in the sweep's folder.
std::string below(const std::string& folder, std::string command) {
  if (folder.empty()) return command;
  for (size_t at = 0; (at = command.find(folder + "/", at)) != std::string::npos;) command.erase(at, folder.size() + 1);
  return command;
}

std::string run_row(const RunOutcome& run) {
  const Json& provenance = run.tasks.empty() ? run.config : run.tasks[0].provenance;
  const bool there = !run.tasks.empty();
  std::string cells = element("td", escaped(run.cell)) + element("td", std::to_string(run.seed));
  if (!there) return element("tr", cells + "<td colspan=\"4\">not evaluated yet</td>");
  const Json* step = provenance.find("step");
  cells += element("td", escaped(text_in(provenance, "stage")) + (step ? ", step " + escaped(step->to_string()) : ""));
  cells += element("td", short_hash(text_in(provenance, "checkpoint_sha256")));
  cells += element("td", short_hash(text_in(provenance, "config_sha256")));
  cells += element("td", "vlmamba " + escaped(text_in(provenance, "vlmamba")) + ", LibTorch " +
                             escaped(text_in(provenance, "libtorch")));
  return element("tr", cells);
}

std::string provenance_section(const Outcomes& outcomes) {
  std::string html = element("h2", "Where the numbers come from") + "\n";
  if (!outcomes.command.empty())
    html += element("p", "This command makes all of it, and goes on where it was stopped:") + "\n" +
            element("pre", escaped(outcomes.command)) + "\n";
  std::string rows = element("thead", element("tr", element("th", "cell") + element("th", "seed") +
                                                        element("th", "checkpoint") + element("th", "its SHA-256") +
                                                        element("th", "config's SHA-256") + element("th", "program"))) +
                     "<tbody>\n";
  for (const auto& run : outcomes.runs) rows += run_row(run) + "\n";
  html += element("div", "<table class=\"runs\">" + rows + "</tbody></table>", "scroll") + "\n";
  std::string commands, settings;
  for (const auto& run : outcomes.runs) {
    if (run.tasks.empty()) continue;
    commands += below(outcomes.folder, "vlmamba train --resume " + run.folder + "\n" +
                                           text_in(run.tasks[0].provenance, "command") + "\n");
  }
  for (const auto& cell : outcomes.cells) {
    if (cell.settings.empty()) continue;
    settings += cell.name + ":";
    for (const auto& setting : cell.settings) settings += " --set " + setting;
    settings += "\n";
  }
  if (!settings.empty()) html += element("h3", "What each cell changes") + "\n" + element("pre", escaped(settings));
  if (!commands.empty())
    html +=
        element("h3", "Commands of each run" + std::string(outcomes.folder.empty() ? "" : ", in the sweep’s folder")) +
        "\n" + element("pre", escaped(commands));
  return element("section", "\n" + html) + "\n";
}

std::string lead(const Summary& summary) {
  std::string html = element("p",
                             std::to_string(summary.there) + (summary.there == 1 ? " run" : " runs") +
                                 ". Mean ± standard deviation over seeds; the best of a column is bold; loss: of the "
                                 "last stage, at its end.",
                             "lead") +
                     "\n";
  if (summary.partial())
    html += element("p",
                    "<b>Partial.</b> " + std::to_string(summary.there) + " of " + std::to_string(summary.planned) +
                        " runs are evaluated so far; rows say how many they stand on.",
                    "banner") +
            "\n";
  return html;
}

}  // namespace

std::string to_page(const Outcomes& outcomes, const Summary& summary, const std::vector<TaskSamples>& samples) {
  std::string body = element("h1", escaped(outcomes.title)) + "\n" + lead(summary);
  for (const auto& table : summary.tables) body += section_of(outcomes, summary, table);
  if (!outcomes.published.source.empty())
    body += element("p", "Numbers marked “paper”: " + escaped(outcomes.published.source), "small") + "\n";
  body += samples_section(samples) + provenance_section(outcomes);
  body += element("p", "Made by vlmamba " + escaped(version()) + ", LibTorch " + escaped(libtorch_version()) + ".",
                  "small");
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escaped(outcomes.title) + "</title>\n<style>" + kPageStyle + "</style>\n</head>\n<body>\n<main>\n" + body +
         "\n</main>\n</body>\n</html>\n";
}

}  // namespace vlmamba::study
