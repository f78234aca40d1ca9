#include "vlmamba/study/cells.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vlmamba/core/error.h"
#include "vlmamba/io/config.h"
#include "vlmamba/study/outcomes.h"

namespace vlmamba::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SweepConfig sweep_of(const std::string& text) {
  const std::string all = R"({"base": "run.json", "output_dir": "/out", )" + text + "}";
  return io::from_json<SweepConfig>(io::parse_json(all, "sweep", ExitCode::kUsage), "sweep");
}

// What a run config with these defaults would come to.
std::string identity(const Cell& cell) {
  std::map<std::string, std::string> values{{"scan", "bidirectional"}, {"kind", "vss_l2"}};
  for (const auto& setting : cell.settings)
    values[setting.substr(0, setting.find('='))] = setting.substr(setting.find('=') + 1);
  std::string text;
  for (const auto& [key, value] : values) text += key + "=" + value + ";";
  return text;
}

std::vector<std::string> names(const Cells& cells) {
  std::vector<std::string> names;
  for (const auto& cell : cells.cells) names.push_back(cell.name);
  return names;
}

constexpr const char* kAxes =
    R"("axes": [{"key": "scan", "values": ["none", "bidirectional"]}, {"key": "kind", "values": ["mlp", "vss_l2"]}])";

TEST(SweepCells, OneAtATimeVariesTheBaseAndRunsItOnce) {
  const auto cells = make_cells(sweep_of(kAxes), identity, "sweep");
  EXPECT_THAT(names(cells), ElementsAre("base", "scan_none", "kind_mlp"));
  ASSERT_EQ(cells.tables.size(), 2u);
  EXPECT_EQ(cells.tables[0].title, "scan");
  EXPECT_EQ(cells.tables[0].rows[1].label, "bidirectional");
  EXPECT_EQ(cells.tables[0].rows[1].cell, "base");
  EXPECT_EQ(cells.tables[1].rows[0].cell, "kind_mlp");
}

TEST(SweepCells, AProductCombinesEveryValueWithEvery) {
  const auto cells = make_cells(sweep_of(std::string(R"("design": "product", )") + kAxes), identity, "sweep");
  EXPECT_THAT(names(cells), ElementsAre("scan_none-kind_mlp", "scan_none-kind_vss-l2", "scan_bidirectional-kind_mlp",
                                        "scan_bidirectional-kind_vss-l2"));
  EXPECT_THAT(cells.cells[1].settings, ElementsAre("scan=none", "kind=vss_l2"));
  ASSERT_EQ(cells.tables.size(), 1u);
  EXPECT_EQ(cells.tables[0].rows[1].label, "none, vss_l2");
}

TEST(SweepCells, OwnCellsMayStandInSeveralTables) {
  const auto cells = make_cells(
      sweep_of(R"("cells": [{"name": "clip", "set": {"model": {"kind": "clip", "size": 336}, "stages.align.steps": 3}},
                            {"name": "siglip", "set": {"model.kind": "siglip"}}],
                  "tables": [{"title": "A", "rows": [{"label": "CLIP", "cell": "clip"}]},
                             {"title": "B", "rows": [{"label": "C", "cell": "clip"}, {"label": "S", "cell": "siglip"}]}])"),
      identity, "sweep");
  EXPECT_THAT(names(cells), ElementsAre("clip", "siglip"));
  EXPECT_THAT(cells.cells[0].settings, ElementsAre("model.kind=clip", "model.size=336", "stages.align.steps=3"));
  EXPECT_EQ(cells.tables[1].rows[0].cell, "clip");
}

TEST(SweepCells, EverythingWrongIsToldAtOnce) {
  const auto sweep = sweep_of(R"("seeds": [1, 1], "set": {"seed": 3}, "axes": [{"key": "scan", "values": []}],
    "cells": [{"name": "a/b"}], "tables": [{"title": "T", "rows": [{"label": "x", "cell": "nowhere"}]}])");
  try {
    make_cells(sweep, identity, "s.json");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    for (const char* part : {"[s.json] seeds: ", "set.seed=3", "axes.scan.values", "cells.a/b.name", "\"nowhere\""})
      EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(SweepCells, ACellMayStartFromAConfigOfItsOwn) {
  const auto cells = make_cells(
      sweep_of(R"("cells": [{"name": "a", "base": "other.json"}, {"name": "b"}])"),
      [](const Cell& cell) { return cell.base; }, "sweep");
  EXPECT_EQ(cells.cells[0].base, "other.json");
  EXPECT_EQ(cells.cells[1].base, "run.json");
}

// Four tables of ten rows, three of which are runs of the table before.
TEST(PaperSweep, IsTenRowsOfSevenRuns) {
  const std::string folder = std::string(VLMAMBA_SOURCE_DIR) + "/configs/ablations/";
  const auto sweep = io::read_config<SweepConfig>(folder + "paper.json", {});
  const auto cells = make_cells(
      sweep, [](const Cell& cell) { return cell.base; }, "paper.json");
  EXPECT_EQ(cells.cells.size(), 7u);
  std::vector<size_t> rows;
  for (const auto& table : cells.tables) rows.push_back(table.rows.size());
  EXPECT_THAT(rows, ElementsAre(3, 2, 3, 2));
  const auto all = names(cells);
  const auto published = io::read_config<Published>(folder + "paper_numbers.json", {});
  for (const auto& [cell, scores] : published.scores) EXPECT_THAT(all, testing::Contains(cell));
  EXPECT_EQ(published.scores.at("siglip_vss_l2_bsm_mamba_2.8b_slimpj").size(), 8u);
}

}  // namespace
}  // namespace vlmamba::study
