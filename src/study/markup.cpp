#include "src/study/markup.h"

#include <cmath>
#include <cstdio>

namespace vlmamba::study {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Length of the well-formed UTF-8 sequence at the start, or 0 (Unicode, table 3-7).
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](size_t i) { return byte(i) >= 0x80 && byte(i) <= 0xBF; };
  const unsigned first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool fine = continues(1) && (first != 0xE0 || second >= 0xA0) && (first != 0xED || second <= 0x9F);
    return fine && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool fine = continues(1) && (first != 0xF0 || second >= 0x90) && (first != 0xF4 || second <= 0x8F);
    return fine && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string safe;
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence_length(text.substr(at));
    const char c = text[at];
    const bool control = length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) && c != '\n' && c != '\t';
    if (length == 0 || control)
      safe += kReplacement;
    else if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '"')
      safe += "&quot;";
    else if (c == '\'')
      safe += "&#39;";
    else
      safe += text.substr(at, length);
    at += length == 0 ? 1 : length;
  }
  return safe;
}

std::string decimals(double value, int count) {
  const double half = 0.5 * std::pow(10.0, -count);
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", count, std::fabs(value) < half ? 0.0 : value);
  return text;
}

std::string csv_cell(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string markdown_cell(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '|' || c == '\\' || c == '*' || c == '_' || c == '`' || c == '<' || c == '[') safe += '\\';
    safe += c == '\n' || c == '\r' ? ' ' : c;
  }
  return safe;
}

}  // namespace vlmamba::study
