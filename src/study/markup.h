#pragma once

#include <string>
#include <string_view>

namespace vlmamba::study {

/// Text as HTML and SVG show it, safe between tags and in quoted attributes. Bytes that are no UTF-8 and control
/// characters become the replacement character.
std::string escaped(std::string_view text);

/// A number with this many decimals, without a sign for zero.
std::string decimals(double value, int count);

/// A cell of a CSV file.
std::string csv_cell(std::string_view text);

/// A cell of a Markdown table.
std::string markdown_cell(std::string_view text);

}  // namespace vlmamba::study
