#include "vlmamba/io/tsv.h"

#include <algorithm>

#include "vlmamba/io/json_stream.h"

namespace vlmamba::io {
namespace {

class Reader {
 public:
  Reader(std::string_view text, const std::string& where, ExitCode code) : text_(text), where_(where), code_(code) {}

  /// False at the end of the text.
  bool row(Table::Row& row) {
    while (at_ < text_.size() && end_of_line()) continue;
    if (at_ >= text_.size()) return false;
    row = {{}, line_};
    do row.fields.push_back(field());
    while (accept_tab());
    if (at_ < text_.size()) end_of_line();
    return true;
  }

 private:
  bool accept_tab() {
    if (at_ >= text_.size() || text_[at_] != '\t') return false;
    ++at_;
    return true;
  }
  bool at_break() const { return text_[at_] == '\n' || text_[at_] == '\r'; }
  bool end_of_line() {
    if (!at_break()) return false;
    if (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n') ++at_;
    ++at_, ++line_;
    return true;
  }
  std::string field() {
    std::string result;
    if (at_ < text_.size() && text_[at_] == '"') result = quoted();
    while (at_ < text_.size() && text_[at_] != '\t' && !at_break()) result += text_[at_++];
    return result;
  }
  std::string quoted() {
    const int64_t start = line_;
    std::string result;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') return ++at_, result;
        ++at_;
      }
      line_ += text_[at_] == '\n' ? 1 : 0;
      result += text_[at_];
    }
    throw Error(code_, where_ + ":" + std::to_string(start), "expected a closing quote, got the end of the file");
  }

  std::string_view text_;
  const std::string& where_;
  ExitCode code_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

int64_t Table::find(std::string_view column) const {
  const auto found = std::find(columns.begin(), columns.end(), column);
  return found == columns.end() ? -1 : found - columns.begin();
}

Table parse_tsv(std::string_view text, const std::string& where, ExitCode code) {
  Reader reader(without_mark(text), where, code);
  Table table;
  Table::Row row;
  if (!reader.row(row)) throw Error(code, where, "expected a header, got an empty file");
  table.columns = std::move(row.fields);
  while (reader.row(row)) {
    if (row.fields.size() > table.columns.size())
      throw Error(
          code, where + ":" + std::to_string(row.line),
          "expected " + std::to_string(table.columns.size()) + " fields, got " + std::to_string(row.fields.size()));
    row.fields.resize(table.columns.size());
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace vlmamba::io
