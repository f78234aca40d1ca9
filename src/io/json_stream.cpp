#include "vlmamba/io/json_stream.h"

#include <algorithm>

namespace vlmamba::io {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";
constexpr size_t kParsedAsAWhole = 16 << 20;  // bytes: a tree takes ten times as many

// Finds where values begin and end, by brackets and quotes alone; parse_json judges what is between.
class Scanner {
 public:
  Scanner(std::string_view text, const std::string& where, ExitCode code) : text_(text), where_(where), code_(code) {}

  /// The next character that is no white space, or 0 at the end.
  char peek() {
    at_ = std::min(text_.find_first_not_of(kSpaces, at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void expect(char wanted) {
    if (peek() != wanted) refuse();
    ++at_;
  }
  bool accept(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  bool at_end() { return peek() == '\0' && at_ == text_.size(); }
  std::string_view value() {
    peek();
    const size_t start = start_ = at_;
    int64_t depth = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        skip_string();
      } else if (c == '[' || c == '{') {
        ++depth, ++at_;
      } else if (c == ']' || c == '}') {
        if (depth == 0) break;
        --depth, ++at_;
      } else if (depth == 0 && (c == ',' || c == ':' || kSpaces.find(c) != std::string_view::npos)) {
        break;
      } else {
        ++at_;
      }
      if (depth == 0 && (c == '"' || c == ']' || c == '}')) break;
    }
    if (depth != 0 || at_ == start) refuse();
    count_lines(start);
    return text_.substr(start, at_ - start);
  }
  /// Of the last value's start.
  int64_t line() const { return line_; }
  Json parse(std::string_view slice) const { return parse_json(slice, where_, code_, false, line_); }

  /// The whole text is malformed in a way that the parser can name, if it is small enough to be parsed as a whole.
  [[noreturn]] void refuse() const {
    if (text_.size() > kParsedAsAWhole)
      throw Error(
          code_, where_ + ": byte " + std::to_string(std::min(at_, text_.size())),
          "expected JSON to go on, got " +
              (at_ < text_.size() ? "\"" + std::string(text_.substr(at_, 40)) + "\""
                                  : "the end of the file; the last value starts at byte " + std::to_string(start_)));
    parse_json(text_, where_, code_);
    throw Error(code_, where_, "expected JSON of another form");
  }

 private:
  void skip_string() {
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_)
      if (text_[at_] == '\\') ++at_;
    if (at_ >= text_.size()) refuse();
    ++at_;
  }
  void count_lines(size_t start) {
    line_ += std::count(text_.begin() + static_cast<std::ptrdiff_t>(counted_),
                        text_.begin() + static_cast<std::ptrdiff_t>(start), '\n');
    counted_ = start;
  }

  std::string_view text_;
  const std::string& where_;
  ExitCode code_;
  size_t at_ = 0, start_ = 0, counted_ = 0;  // start_: of the last value
  int64_t line_ = 1;
};

template <typename Each>
void scan_list(Scanner& scanner, char open, char close, const Each& each) {
  scanner.expect(open);
  if (scanner.accept(close)) return;
  do each();
  while (scanner.accept(','));
  scanner.expect(close);
}

void scan_elements(Scanner& scanner, const EachText& each) {
  scan_list(scanner, '[', ']', [&] {
    const auto slice = scanner.value();
    each(slice, scanner.line());
  });
}

void scan_elements(Scanner& scanner, const EachValue& each) {
  scan_elements(scanner, EachText([&](std::string_view slice, int64_t line) { each(scanner.parse(slice), line); }));
}

std::string scan_key(Scanner& scanner) {
  if (scanner.peek() != '"') scanner.refuse();
  const auto slice = scanner.value();
  std::string key = scanner.parse(slice).as_string();
  scanner.expect(':');
  return key;
}

void expect_end(Scanner& scanner) {
  if (!scanner.at_end()) scanner.refuse();
}

}  // namespace

std::string_view without_mark(std::string_view text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  return text.substr(0, kMark.size()) == kMark ? text.substr(kMark.size()) : text;
}

void for_each_line_text(std::string_view text, const EachText& each) {
  text = without_mark(text);
  int64_t number = 1;
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (line.find_first_not_of(kSpaces) != std::string_view::npos) each(line, number);
    at = end + 1;
  }
}

void for_each_line(std::string_view text, const std::string& where, ExitCode code, const EachValue& each) {
  for_each_line_text(
      text, [&](std::string_view line, int64_t number) { each(parse_json(line, where, code, false, number), number); });
}

void for_each_element_text(std::string_view text, const std::string& where, ExitCode code, const EachText& each) {
  text = without_mark(text);
  Scanner scanner(text, where, code);
  if (scanner.peek() == '{') throw Error(code, where + ":1:1", "expected an array, got an object");
  scan_elements(scanner, each);
  expect_end(scanner);
}

void for_each_element(std::string_view text, std::string_view key, const std::string& where, ExitCode code,
                      const EachValue& each) {
  text = without_mark(text);
  Scanner scanner(text, where, code);
  if (key.empty())
    return for_each_element_text(text, where, code, [&](std::string_view value, int64_t line) {
      each(parse_json(value, where, code, false, line), line);
    });
  if (scanner.peek() == '[') throw Error(code, where + ":1:1", "expected an object, got an array");
  bool found = false;
  scan_list(scanner, '{', '}', [&] {
    const bool wanted = scan_key(scanner) == key;
    if (wanted && scanner.peek() != '[')
      throw Error(code, where, std::string(key) + ": expected an array, got something else");
    if (wanted)
      scan_elements(scanner, each);
    else
      scanner.value();
    found = found || wanted;
  });
  expect_end(scanner);
  if (!found) throw Error(code, where, "expected the key \"" + std::string(key) + "\", got none");
}

void for_each_member(std::string_view text, const std::string& where, ExitCode code, const EachMember& each) {
  text = without_mark(text);
  Scanner scanner(text, where, code);
  if (scanner.peek() == '[') throw Error(code, where + ":1:1", "expected an object, got an array");
  scan_list(scanner, '{', '}', [&] {
    const std::string key = scan_key(scanner);
    const auto slice = scanner.value();
    each(key, scanner.parse(slice), scanner.line());
  });
  expect_end(scanner);
}

}  // namespace vlmamba::io
