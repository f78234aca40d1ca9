#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/core/error.h"

namespace vlmamba::io {

/// A table of text with a header. Every row has as many fields as the header.
struct Table {
  struct Row {
    std::vector<std::string> fields;
    int64_t line;  ///< of the file, 1-based, that the row starts on
  };
  std::vector<std::string> columns;
  std::vector<Row> rows;

  /// The column of this name, or -1.
  int64_t find(std::string_view column) const;
};

/// Tab-separated text as pandas reads it: a field that starts with a quote ends with the next single one, a doubled
/// quote is a quote, and tabs and line breaks between are text; lines end with LF, CR LF or CR; blank lines are passed
/// over; a short row is filled with empty fields. Throws Error(code) that names `where`:line.
Table parse_tsv(std::string_view text, const std::string& where, ExitCode code);

}  // namespace vlmamba::io
