#include "vlmamba/io/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "vlmamba/io/atomic_file.h"

namespace vlmamba::io {
namespace {

constexpr size_t kMaxDepth = 64;

struct Position {
  int line, column;
};

Position position_at(std::string_view text, size_t offset) {
  const auto before = text.substr(0, std::min(offset, text.size()));
  const auto line_start = before.rfind('\n') + 1;  // npos + 1 == 0
  return {1 + static_cast<int>(std::count(before.begin(), before.end(), '\n')),
          1 + static_cast<int>(before.size() - line_start)};
}

// Feeds the parser and remembers how far it has read.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    auto old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Builds the tree from nlohmann's events. A token starts at the first character after the last token that is no
// separator, space or comment.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(std::string_view text, const std::string& where, ExitCode code, int64_t first_line)
      : text_(text), where_(where), code_(code), first_line_(first_line) {
    lines_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i)
      if (text[i] == '\n') lines_.push_back(i + 1);
  }

  bool null() override { return add(Json()); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(static_cast<int64_t>(value))); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return add(Json(static_cast<double>(value)));
    return add(Json(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const size_t start = token_start();
    if (!open_.back().keys.insert(name).second) fail(start, "expected each key once, got \"" + name + "\" again");
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t, const std::string& token, const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    const auto cut = what.find("; ");
    const auto colon = what.find(": ");
    what = cut != std::string::npos ? what.substr(cut + 2) : colon != std::string::npos ? what.substr(colon + 2) : what;
    const auto read = static_cast<size_t>(furthest - text_.data());
    fail(read > 0 ? read - 1 : 0, "expected JSON, got \"" + token.substr(0, 40) + "\" (" + what + ")");
  }

  Json take() { return std::move(root_); }

  const char* furthest = nullptr;  // first character that was not read yet

 private:
  [[noreturn]] void fail(size_t offset, const std::string& message) const {
    const auto at = position_at(text_, offset);
    throw Error(code_, where_ + ":" + std::to_string(first_line_ - 1 + at.line) + ":" + std::to_string(at.column),
                message);
  }

  size_t token_start() {
    size_t at = last_end_;
    for (; at < text_.size(); ++at) {
      const char c = text_[at];
      if (c == '/' && at + 1 < text_.size()) {
        const bool line_comment = text_[at + 1] == '/';
        const auto end = line_comment ? text_.find('\n', at) : text_.find("*/", at + 2);
        if (end == std::string_view::npos) break;
        at = line_comment ? end : end + 1;
      } else if (std::string_view(" \t\r\n,:]}").find(c) == std::string_view::npos) {
        break;
      }
    }
    last_end_ = static_cast<size_t>(furthest - text_.data());
    return at;
  }

  void place(Json& value) {
    const size_t start = token_start();
    const auto line = std::upper_bound(lines_.begin(), lines_.end(), start) - lines_.begin();
    value.line = static_cast<int>(first_line_ - 1 + line);
    value.column = static_cast<int>(start - lines_[static_cast<size_t>(line - 1)]) + 1;
  }

  bool add(Json value) {
    place(value);
    attach(std::move(key_), std::move(value));
    return true;
  }

  bool open(Json value) {
    place(value);
    if (open_.size() >= kMaxDepth) fail(last_end_ - 1, "expected at most 64 levels, got more");
    open_.push_back({std::move(key_), std::move(value), {}});
    return true;
  }

  bool close() {
    last_end_ = static_cast<size_t>(furthest - text_.data());
    Open closed = std::move(open_.back());
    open_.pop_back();
    attach(std::move(closed.key), std::move(closed.value));
    return true;
  }

  struct Open {
    std::string key;  // under which it stands in the container around it
    Json value;
    std::unordered_set<std::string> keys;  // of its members
  };

  void attach(std::string key, Json value) {
    if (open_.empty())
      root_ = std::move(value);
    else if (open_.back().value.is_array())
      open_.back().value.push(std::move(value));
    else
      open_.back().value.append(std::move(key), std::move(value));
  }

  std::string_view text_;
  const std::string& where_;
  ExitCode code_;
  int64_t first_line_;
  std::vector<size_t> lines_;  // where each line starts
  size_t last_end_ = 0;
  std::string key_;
  std::vector<Open> open_;  // the containers around the current token
  Json root_;
};

void write_string(std::string& out, const std::string& text) {
  // Invalid UTF-8 (from a model, say) is replaced, never an exception.
  out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void new_line(std::string& out, int indent, int level) {
  if (indent < 0) return;
  out += '\n';
  out.append(static_cast<size_t>(indent * level), ' ');
}

void write(std::string& out, const Json& value, int indent, int level) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      out += "null";
      return;
    case Json::Kind::kBool:
      out += value.as_bool() ? "true" : "false";
      return;
    case Json::Kind::kInteger:
      out += std::to_string(value.as_integer());
      return;
    case Json::Kind::kNumber:
      write_number(out, value.as_number());
      return;
    case Json::Kind::kString:
      write_string(out, value.as_string());
      return;
    case Json::Kind::kArray:
      out += '[';
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (i > 0) out += indent < 0 ? ", " : ",";
        new_line(out, indent, level + 1);
        write(out, value.items()[i], indent, level + 1);
      }
      if (!value.items().empty()) new_line(out, indent, level);
      out += ']';
      return;
    case Json::Kind::kObject:
      out += '{';
      for (size_t i = 0; i < value.members().size(); ++i) {
        if (i > 0) out += indent < 0 ? ", " : ",";
        new_line(out, indent, level + 1);
        write_string(out, value.members()[i].first);
        out += ": ";
        write(out, value.members()[i].second, indent, level + 1);
      }
      if (!value.members().empty()) new_line(out, indent, level);
      out += '}';
      return;
  }
}

}  // namespace

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : members_)
    if (name == key) return &value;
  return nullptr;
}

Json& Json::set(std::string_view key, Json value) {
  for (auto& [name, old] : members_)
    if (name == key) return old = std::move(value);
  return append(std::string(key), std::move(value));
}

Json& Json::append(std::string key, Json value) {
  return members_.emplace_back(std::move(key), std::move(value)).second;
}

std::string Json::to_string(int indent) const {
  std::string out;
  write(out, *this, indent, 0);
  return out;
}

std::string_view kind_name(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::kNull:
      return "null";
    case Json::Kind::kBool:
      return "true or false";
    case Json::Kind::kInteger:
      return "an integer";
    case Json::Kind::kNumber:
      return "a number";
    case Json::Kind::kString:
      return "a string";
    case Json::Kind::kArray:
      return "an array";
    case Json::Kind::kObject:
      return "an object";
  }
  return "?";
}

Json parse_json(std::string_view text, const std::string& where, ExitCode code, bool comments, int64_t first_line) {
  Builder builder(text, where, code, first_line);
  builder.furthest = text.data();
  const CountingIterator first(text.data(), &builder.furthest);
  const CountingIterator last(text.data() + text.size(), &builder.furthest);
  nlohmann::json::sax_parse(first, last, &builder, nlohmann::json::input_format_t::json, /*strict=*/true, comments);
  return builder.take();
}

Json read_json(const std::string& path, ExitCode code, bool comments) {
  return parse_json(read_file(path, code), path, code, comments);
}

const Json& require(const Json& object, std::string_view key, Json::Kind kind, const std::string& where,
                    ExitCode code) {
  const auto at = [&](const Json& value) {
    return where + ":" + std::to_string(value.line) + ":" + std::to_string(value.column);
  };
  if (!object.is_object())
    throw Error(code, at(object), "expected an object, got " + std::string(kind_name(object.kind())));
  const Json* value = object.find(key);
  if (value == nullptr) throw Error(code, at(object), "expected the key \"" + std::string(key) + "\", got none");
  if (value->kind() != kind && !(kind == Json::Kind::kNumber && value->is_number()))
    throw Error(code, at(*value),
                std::string(key) + ": expected " + std::string(kind_name(kind)) + ", got " +
                    std::string(kind_name(value->kind())));
  return *value;
}

}  // namespace vlmamba::io
