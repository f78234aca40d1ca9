#include "vlmamba/study/cells.h"

#include <algorithm>
#include <map>
#include <set>

#include "vlmamba/core/error.h"

namespace vlmamba::study {
namespace {

using io::Json;

std::string text_of(const Json& value) { return value.is_string() ? value.as_string() : value.to_string(); }

void flatten(const Json& set, const std::string& prefix, std::vector<std::string>& settings) {
  for (const auto& [key, value] : set.members()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object() && !value.members().empty())
      flatten(value, path, settings);
    else
      settings.push_back(path + "=" + text_of(value));
  }
}

std::string name_of(const Axis& axis) {
  return axis.name.empty() ? axis.key.substr(axis.key.rfind('.') + 1) : axis.name;
}

std::string as_folder_name(std::string text) {
  for (char& c : text)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '-';
  return text;
}

bool is_folder_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  });
}

Cell one_value(const Axis& axis, const Json& value) {
  return {name_of(axis) + "_" + as_folder_name(text_of(value)), {axis.key + "=" + text_of(value)}, ""};
}

class Complaints {
 public:
  explicit Complaints(std::string where) : where_(std::move(where)) {}
  void unless(bool fine, const std::string& key, const std::string& message) {
    if (!fine) text_ += (text_.empty() ? "[" : "\n[") + where_ + "] " + key + ": " + message;
  }
  void throw_if_any() const {
    if (!text_.empty()) throw Error(ExitCode::kUsage, text_ + "\nnothing was started");
  }

 private:
  std::string where_, text_;
};

void check(const SweepConfig& config, Complaints& complaints) {
  complaints.unless(!config.base.empty() || (config.axes.empty() && config.shared_stages.empty()), "base",
                    "expected a run config, got none");
  for (const auto& cell : config.cells)
    complaints.unless(!config.base.empty() || !cell.base.empty(), "cells." + cell.name + ".base",
                      "expected a run config here or as the sweep's base, got neither");
  complaints.unless(!config.output_dir.empty(), "output_dir", "expected a folder, got none");
  complaints.unless(!config.seeds.empty(), "seeds", "expected at least one, got none");
  complaints.unless(std::set(config.seeds.begin(), config.seeds.end()).size() == config.seeds.size(), "seeds",
                    "expected seeds that differ, got one twice");
  std::set<std::string> names;
  for (const auto& axis : config.axes) {
    const std::string key = "axes." + (axis.key.empty() ? axis.name : name_of(axis));
    complaints.unless(!axis.key.empty(), key + ".key", "expected a key of the run config, got none");
    complaints.unless(!axis.values.empty(), key + ".values", "expected at least one value, got none");
    complaints.unless(names.insert(name_of(axis)).second, key + ".name", "expected names that differ, got this twice");
  }
  for (const auto& setting : settings_of(config.set))
    for (const std::string key : {"seed=", "output_dir="})
      complaints.unless(!setting.starts_with(key), "set." + setting,
                        "expected neither seed nor output_dir, which the sweep gives to every run");
  for (const auto& step : config.prepare) {
    complaints.unless(!step.command.empty(), "prepare." + step.name + ".command", "expected a program, got none");
    complaints.unless(!step.creates.empty(), "prepare." + step.name + ".creates", "expected a file, got none");
  }
}

// Cells under the names they were given, before equal ones are found.
class Listing {
 public:
  void add(Cell cell) { cells.push_back(std::move(cell)); }
  void add_table(const std::string& title) { tables.push_back({title, "", {}}); }
  void add_row(const std::string& label, const std::string& cell) { tables.back().rows.push_back({label, cell}); }

  std::vector<Cell> cells;
  std::vector<Table> tables;
};

void one_at_a_time(const SweepConfig& config, Listing& listing) {
  listing.add({"base", {}, ""});
  for (const auto& axis : config.axes) {
    listing.add_table(name_of(axis));
    for (const auto& value : axis.values) {
      listing.add(one_value(axis, value));
      listing.add_row(text_of(value), listing.cells.back().name);
    }
  }
}

void product(const SweepConfig& config, Listing& listing) {
  std::vector<Cell> combined{{"", {}, ""}};
  std::string title;
  for (const auto& axis : config.axes) {
    std::vector<Cell> longer;
    for (const auto& cell : combined)
      for (const auto& value : axis.values) {
        Cell one = one_value(axis, value);
        if (!cell.name.empty()) one.name = cell.name + "-" + one.name;
        one.settings.insert(one.settings.begin(), cell.settings.begin(), cell.settings.end());
        longer.push_back(std::move(one));
      }
    combined = std::move(longer);
    title += (title.empty() ? "" : " × ") + name_of(axis);
  }
  listing.add_table(title);
  for (auto& cell : combined) {
    std::string label;
    for (const auto& setting : cell.settings)
      label += (label.empty() ? "" : ", ") + setting.substr(setting.find('=') + 1);
    listing.add_row(label, cell.name);
    listing.add(std::move(cell));
  }
}

Listing list(const SweepConfig& config) {
  Listing listing;
  if (!config.axes.empty())
    config.design == Design::kProduct ? product(config, listing) : one_at_a_time(config, listing);
  if (!config.cells.empty() && config.tables.empty()) listing.add_table("cells");
  for (const auto& own : config.cells) {
    listing.add({own.name, settings_of(own.set), own.base});
    if (config.tables.empty()) listing.add_row(own.name, own.name);
  }
  if (!config.tables.empty()) listing.tables = config.tables;
  return listing;
}

}  // namespace

std::vector<std::string> settings_of(const Json& set) {
  std::vector<std::string> settings;
  flatten(set, "", settings);
  return settings;
}

Cells make_cells(const SweepConfig& config, const std::function<std::string(const Cell&)>& identity,
                 const std::string& where) {
  Complaints complaints(where);
  check(config, complaints);
  Listing listing = list(config);
  complaints.unless(!listing.cells.empty(), "axes", "expected axes or cells, got neither");
  std::set<std::string> names;
  for (const auto& cell : listing.cells) {
    complaints.unless(is_folder_name(cell.name), "cells." + cell.name + ".name",
                      "expected letters, digits, _, - and ., got \"" + cell.name + "\"");
    complaints.unless(names.insert(cell.name).second, "cells." + cell.name, "expected names that differ, got it twice");
  }
  for (const auto& table : listing.tables)
    for (const auto& row : table.rows)
      complaints.unless(names.contains(row.cell), "tables." + table.title + ".rows." + row.label,
                        "expected the name of a cell, got \"" + row.cell + "\"");
  complaints.throw_if_any();

  Cells result;
  std::map<std::string, std::string> first, alias;  // by identity, by name
  for (auto& cell : listing.cells) {
    if (cell.base.empty()) cell.base = config.base;
    const auto [found, fresh] = first.emplace(identity(cell), cell.name);
    alias[cell.name] = found->second;
    if (fresh) result.cells.push_back(std::move(cell));
  }
  for (auto& table : listing.tables)
    for (auto& row : table.rows) row.cell = alias.at(row.cell);
  result.tables = std::move(listing.tables);
  return result;
}

}  // namespace vlmamba::study
