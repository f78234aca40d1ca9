#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vlmamba/core/error.h"

namespace vlmamba::io {

/// A JSON value that knows where it stood in its text. Objects keep the order of their members.
class Json {
 public:
  enum class Kind { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  Json() = default;
  Json(bool value) : kind_(Kind::kBool), bool_(value) {}                        // NOLINT: values convert
  Json(int value) : Json(static_cast<int64_t>(value)) {}                        // NOLINT
  Json(int64_t value) : kind_(Kind::kInteger), integer_(value) {}               // NOLINT
  Json(double value) : kind_(Kind::kNumber), number_(value) {}                  // NOLINT
  Json(std::string value) : kind_(Kind::kString), string_(std::move(value)) {}  // NOLINT
  Json(std::string_view value) : Json(std::string(value)) {}                    // NOLINT
  Json(const char* value) : Json(std::string(value)) {}                         // NOLINT
  static Json array() { return Json(Kind::kArray); }
  static Json object() { return Json(Kind::kObject); }

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_bool() const { return kind_ == Kind::kBool; }
  bool is_integer() const { return kind_ == Kind::kInteger; }
  bool is_number() const { return kind_ == Kind::kNumber || kind_ == Kind::kInteger; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_array() const { return kind_ == Kind::kArray; }
  bool is_object() const { return kind_ == Kind::kObject; }

  /// The value. The kind must fit; an integer is also a number.
  bool as_bool() const { return bool_; }
  int64_t as_integer() const { return integer_; }
  double as_number() const { return is_integer() ? static_cast<double>(integer_) : number_; }
  const std::string& as_string() const { return string_; }
  const std::vector<Json>& items() const { return items_; }
  const std::vector<Member>& members() const { return members_; }

  /// The member of this name, or null.
  const Json* find(std::string_view key) const;

  void push(Json value) { items_.push_back(std::move(value)); }
  /// Adds a member, or replaces the one of this name. Returns it.
  Json& set(std::string_view key, Json value);
  /// Adds a member whose name is known to be new. Returns it.
  Json& append(std::string key, Json value);

  /// Text with `indent` spaces a level; no line breaks for a negative indent. Doubles read back to the same bits.
  std::string to_string(int indent = -1) const;

  int line = 0, column = 0;  ///< 1-based position of the value in its text; 0 where it was built

 private:
  explicit Json(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kNull;
  bool bool_ = false;
  int64_t integer_ = 0;
  double number_ = 0;
  std::string string_;
  std::vector<Json> items_;
  std::vector<Member> members_;
};

/// "an object", "a string", …: for messages.
std::string_view kind_name(Json::Kind kind);

/// Reads one JSON value and nothing behind it. Refuses duplicate keys and more than 64 levels; `comments` allows // and
/// /* */. `first_line` numbers the text's first line. Throws Error(code) that names `where`:line:column.
Json parse_json(std::string_view text, const std::string& where, ExitCode code, bool comments = false,
                int64_t first_line = 1);
Json read_json(const std::string& path, ExitCode code, bool comments = false);

/// A member that must be there and of that kind. Throws Error(code) naming where:line:column and the key.
const Json& require(const Json& object, std::string_view key, Json::Kind kind, const std::string& where, ExitCode code);

}  // namespace vlmamba::io
