#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vlmamba {

/// Without the white space (of ASCII) around it.
inline std::string stripped(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\n\r\f\v";
  const auto first = text.find_first_not_of(kSpaces);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kSpaces) - first + 1));
}

/// Text of a file, for a terminal: control characters become \xNN, but those that are `kept`.
std::string printable(std::string_view text, std::string_view kept = {});

/// The name that differs least from `name` (Levenshtein), if it differs by at most 2 + a quarter of its length; else
/// "". Of many thousands only the first ones are compared.
std::string nearest(std::string_view name, const std::vector<std::string>& names);

}  // namespace vlmamba
