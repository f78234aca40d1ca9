#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/io/json.h"

namespace vlmamba::study {

/// How axes become cells: every value alone against the base, or every value with every other.
enum class Design { kOneAtATime, kProduct };
constexpr auto enum_names(Design) {
  return std::array{EnumName<Design>{Design::kOneAtATime, "one_at_a_time"},
                    EnumName<Design>{Design::kProduct, "product"}};
}

/// One key of the run config that takes several values.
struct Axis {
  std::string name;
  std::string key;
  std::vector<io::Json> values;

  template <typename F>
  void visit(F& f) {
    f("name", name, "in the names of cells and over the table; empty: the key's last part");
    f("key", key, "of the run config, as in --set");
    f("values", values, "that it takes");
  }
};

/// A cell that the axes do not reach.
struct OwnCell {
  std::string name, base;
  io::Json set = io::Json::object();

  template <typename F>
  void visit(F& f) {
    f("name", name, "names the cell's folder");
    f("base", base, "run config that it starts from; empty: the sweep's");
    f("set", set, "keys of the run config and their values");
  }
};

struct TableRow {
  std::string label, cell;

  template <typename F>
  void visit(F& f) {
    f("label", label, "as it is printed");
    f("cell", cell, "whose runs the row summarises");
  }
};

/// A table of the report.
struct Table {
  std::string title, note;
  std::vector<TableRow> rows;

  template <typename F>
  void visit(F& f) {
    f("title", title, "over the table");
    f("note", note, "under the table");
    f("rows", rows, "in order; cells may stand in several tables");
  }
};

/// A program that makes what the runs read.
struct Preparation {
  std::string name, creates;
  std::vector<std::string> command;

  template <typename F>
  void visit(F& f) {
    f("name", name, "for the log");
    f("creates", creates, "file that is there when the command has ended well; the command is then not run again");
    f("command", command, "program and arguments; a program beside this one is found by its name");
  }
};

/// Many runs that differ in a few keys. Every `{output_dir}` in a value stands for the sweep's own.
struct SweepConfig {
  std::string title;
  std::string base;
  std::string output_dir;
  io::Json set = io::Json::object();
  std::vector<int64_t> seeds{1};
  Design design = Design::kOneAtATime;
  std::vector<Axis> axes;
  std::vector<OwnCell> cells;
  std::vector<std::string> shared_stages, launch;
  std::vector<Preparation> prepare;
  std::vector<Table> tables;
  std::string published;

  template <typename F>
  void visit(F& f) {
    f("title", title, "of the report");
    f("base", base, "run config that cells start from");
    f("output_dir", output_dir, "folder of all runs and of the report; a sweep that was begun there goes on");
    f("set", set, "keys of the run config and their values, the same in every cell");
    f("seeds", seeds, "of the runs of every cell");
    f("design", design, "one_at_a_time: the base, and every value of every axis alone; product: all combinations");
    f("axes", axes, "what is varied");
    f("cells", cells, "further cells, each with its own settings");
    f("shared_stages", shared_stages,
      "first stages whose result depends only on the parts they train (text without pictures): trained once a seed");
    f("launch", launch, "words before `vlmamba train`, for many processes: torchrun, --no-python, …");
    f("prepare", prepare, "programs that run before the first cell");
    f("tables", tables, "of the report; none: one for each axis");
    f("published", published, "file of numbers that the report sets beside ours");
  }
};

}  // namespace vlmamba::study
