#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "vlmamba/core/error.h"
#include "vlmamba/core/fields.h"
#include "vlmamba/io/json.h"

/// Reading, overriding and writing of the structs of core/fields.h.
namespace vlmamba::io {

/// All that is wrong with one config; a line each, so that a user mends a file once.
class ConfigErrors {
 public:
  explicit ConfigErrors(std::string where) : where_(std::move(where)) {}

  void add(const Json& value, const std::string& key, const std::string& message);
  /// A key that the struct at `path` does not have: names the nearest one, also by LLaVA's and Prismatic's names.
  void add_unknown(const Json& value, const std::string& path, const std::string& key,
                   const std::vector<std::string>& allowed);
  /// Throws Error (usage) if there is one.
  void throw_if_any() const;

 private:
  std::string where_;
  std::vector<std::string> lines_;
};

/// One line of the reference of all keys.
struct ConfigKey {
  std::string path, type, fallback, help;
};

namespace detail {

template <typename T>
concept Enum = std::is_enum_v<T>;

/// The value of --set, which is text until the field's type is known.
Json typed(const Json& value, bool text_wanted);
/// The same for a value whose fields are not known: text that is JSON becomes what it says.
Json settled(const Json& value);
std::string quoted(const Json& value);
std::string join(const std::string& path, std::string_view key);
/// "at least 0 and below 1", with something else for the "and" if wanted.
std::string range_text(const Range& range, const std::string& joint = " and ");

/// How a type is read and written: `read`, `write` and `type` for each kind of member.
template <typename T>
struct Binding;

template <typename T>
void read_value(const Json& json, T& out, const std::string& path, const Range& range, ConfigErrors& errors) {
  Binding<T>::read(json, out, path, range, errors);
}

void check_range(const Json& json, double value, const std::string& path, const Range& range, ConfigErrors& errors);

template <>
struct Binding<bool> {
  static void read(const Json& raw, bool& out, const std::string& path, const Range&, ConfigErrors& errors) {
    const Json json = typed(raw, false);
    if (!json.is_bool()) return errors.add(raw, path, "expected true or false, got " + quoted(raw));
    out = json.as_bool();
  }
  static Json write(bool value) { return value; }
  static std::string type() { return "bool"; }
};

template <>
struct Binding<int64_t> {
  static void read(const Json& raw, int64_t& out, const std::string& path, const Range& range, ConfigErrors& errors) {
    const Json json = typed(raw, false);
    if (!json.is_integer()) return errors.add(raw, path, "expected an integer, got " + quoted(raw));
    out = json.as_integer();
    check_range(raw, static_cast<double>(out), path, range, errors);
  }
  static Json write(int64_t value) { return value; }
  static std::string type() { return "integer"; }
};

template <>
struct Binding<double> {
  static void read(const Json& raw, double& out, const std::string& path, const Range& range, ConfigErrors& errors) {
    const Json json = typed(raw, false);
    if (!json.is_number()) return errors.add(raw, path, "expected a number, got " + quoted(raw));
    out = json.as_number();
    check_range(raw, out, path, range, errors);
  }
  static Json write(double value) { return value; }
  static std::string type() { return "number"; }
};

template <>
struct Binding<std::string> {
  static void read(const Json& raw, std::string& out, const std::string& path, const Range&, ConfigErrors& errors) {
    const Json json = typed(raw, true);
    if (!json.is_string()) return errors.add(raw, path, "expected a string, got " + quoted(raw));
    out = json.as_string();
  }
  static Json write(const std::string& value) { return value; }
  static std::string type() { return "string"; }
};

/// A value that its owner reads later, with from_json.
template <>
struct Binding<Json> {
  static void read(const Json& raw, Json& out, const std::string&, const Range&, ConfigErrors&) { out = settled(raw); }
  static Json write(const Json& value) { return value; }
  static std::string type() { return "any"; }
};

template <Enum T>
struct Binding<T> {
  static std::string names() {
    std::string all;
    for (const auto& entry : enum_names(T{})) all += (all.empty() ? "" : " | ") + std::string(entry.name);
    return all;
  }
  static void read(const Json& raw, T& out, const std::string& path, const Range&, ConfigErrors& errors) {
    const Json json = typed(raw, true);
    for (const auto& entry : enum_names(T{}))
      if (json.is_string() && entry.name == json.as_string()) {
        out = entry.value;
        return;
      }
    errors.add(raw, path, "expected " + names() + ", got " + quoted(raw));
  }
  static Json write(T value) { return enum_name(value); }
  static std::string type() { return names(); }
};

template <typename T>
struct Binding<std::optional<T>> {
  static void read(const Json& raw, std::optional<T>& out, const std::string& path, const Range& range,
                   ConfigErrors& errors) {
    if (typed(raw, false).is_null()) {
      out.reset();
      return;
    }
    read_value(raw, out.emplace(), path, range, errors);
  }
  static Json write(const std::optional<T>& value) { return value ? Binding<T>::write(*value) : Json(); }
  static std::string type() { return Binding<T>::type() + " or null"; }
};

template <typename T>
struct Binding<std::vector<T>> {
  static void read(const Json& raw, std::vector<T>& out, const std::string& path, const Range& range,
                   ConfigErrors& errors) {
    const Json json = typed(raw, false);
    if (!json.is_array()) return errors.add(raw, path, "expected an array, got " + quoted(raw));
    out.clear();
    for (size_t i = 0; i < json.items().size(); ++i) {
      const Json* name = json.items()[i].find("name");
      const std::string element = name && name->is_string() ? name->as_string() : std::to_string(i);
      T value{};
      read_value(json.items()[i], value, join(path, element), range, errors);
      out.push_back(std::move(value));
    }
  }
  static Json write(const std::vector<T>& values) {
    Json json = Json::array();
    for (const auto& value : values) json.push(Binding<T>::write(value));
    return json;
  }
  static std::string type() { return "array of " + Binding<T>::type(); }
};

template <typename T, size_t N>
struct Binding<std::array<T, N>> {
  static void read(const Json& raw, std::array<T, N>& out, const std::string& path, const Range& range,
                   ConfigErrors& errors) {
    std::vector<T> values;
    Binding<std::vector<T>>::read(raw, values, path, range, errors);
    if (values.size() != N)
      return errors.add(raw, path, "expected " + std::to_string(N) + " values, got " + std::to_string(values.size()));
    std::copy(values.begin(), values.end(), out.begin());
  }
  static Json write(const std::array<T, N>& values) {
    return Binding<std::vector<T>>::write({values.begin(), values.end()});
  }
  static std::string type() { return std::to_string(N) + " times " + Binding<T>::type(); }
};

template <typename T>
struct Binding<std::map<std::string, T>> {
  static void read(const Json& raw, std::map<std::string, T>& out, const std::string& path, const Range& range,
                   ConfigErrors& errors) {
    const Json json = typed(raw, false);
    if (!json.is_object()) return errors.add(raw, path, "expected an object, got " + quoted(raw));
    out.clear();
    for (const auto& [key, value] : json.members()) read_value(value, out[key], join(path, key), range, errors);
  }
  static Json write(const std::map<std::string, T>& values) {
    Json json = Json::object();
    for (const auto& [key, value] : values) json.set(key, Binding<T>::write(value));
    return json;
  }
  static std::string type() { return "object of " + Binding<T>::type(); }
};

/// Everything else is a struct with `visit`.
template <typename T>
struct Binding {
  struct Reader {
    const Json& json;
    const std::string& path;
    ConfigErrors& errors;
    std::vector<std::string> allowed = {};

    template <typename Member>
    void operator()(std::string_view key, Member& member, std::string_view /*help*/, const Range& range = {}) {
      allowed.emplace_back(key);
      if (const Json* value = json.find(key)) read_value(*value, member, join(path, key), range, errors);
    }
  };
  struct Writer {
    Json json = Json::object();

    template <typename Member>
    void operator()(std::string_view key, Member& member, std::string_view /*help*/, const Range& /*range*/ = {}) {
      json.append(std::string(key), Binding<Member>::write(member));
    }
  };

  static void read(const Json& raw, T& out, const std::string& path, const Range&, ConfigErrors& errors) {
    const Json json = typed(raw, false);
    if (!json.is_object()) return errors.add(raw, path, "expected an object, got " + quoted(raw));
    Reader reader{json, path, errors};
    out.visit(reader);
    for (const auto& [key, value] : json.members())
      if (std::find(reader.allowed.begin(), reader.allowed.end(), key) == reader.allowed.end())
        errors.add_unknown(value, path, key, reader.allowed);
  }
  static Json write(const T& value) {
    Writer writer;
    T copy = value;  // visit offers members for writing too
    copy.visit(writer);
    return writer.json;
  }
  static std::string type() { return "object"; }
};

/// Collects the reference of all keys from a default-made struct.
struct ReferenceWriter {
  std::string path;
  std::vector<ConfigKey>& keys;

  template <typename Member>
  void operator()(std::string_view key, Member& member, std::string_view help, const Range& range = {}) {
    add(join(path, key), member, help, range);
  }
  template <typename Member>
  void add(const std::string& at, Member& member, std::string_view help, const Range& range) {
    if constexpr (requires { member.visit(*this); }) {
      keys.push_back({at, "object", "", std::string(help)});
      ReferenceWriter inside{at, keys};
      member.visit(inside);
    } else {
      std::string type = Binding<Member>::type();
      if (const std::string bounds = range_text(range, ", "); !bounds.empty()) type += ", " + bounds;
      keys.push_back({at, type, Binding<Member>::write(member).to_string(), std::string(help)});
      if constexpr (requires { typename Binding<Member>::Element; })
        inside<typename Binding<Member>::Element>(at + ".NAME");
      else
        add_elements(at, member);
    }
  }
  template <typename Element>
  void add_elements(const std::string& at, std::vector<Element>&) {
    inside<Element>(at + "[]");
  }
  template <typename Element>
  void add_elements(const std::string& at, std::optional<Element>&) {
    inside<Element>(at);
  }
  template <typename Element>
  void add_elements(const std::string& at, std::map<std::string, Element>&) {
    inside<Element>(at + ".NAME");
  }
  template <typename Other>
  void add_elements(const std::string&, Other&) {}

  template <typename Element>
  void inside(const std::string& at) {
    if constexpr (requires(Element element) { element.visit(*this); }) {
      ReferenceWriter inner{at, keys};
      Element element{};
      element.visit(inner);
    }
  }
};

}  // namespace detail

/// Puts the values of `--set key.path=value` into a config that was read. Elements of arrays are named by index or by
/// their member "name". Throws Error (usage).
void apply_overrides(Json& json, const std::vector<std::string>& overrides);

/// A struct from JSON. Throws Error (usage) that names everything wrong in `where`.
template <typename T>
T from_json(const Json& json, const std::string& where) {
  T config{};
  ConfigErrors errors(where);
  detail::read_value(json, config, "", {}, errors);
  errors.throw_if_any();
  return config;
}

/// A struct from a file, with `--set` overrides.
template <typename T>
T read_config(const std::string& path, const std::vector<std::string>& overrides) {
  Json json = read_json(path, ExitCode::kUsage, /*comments=*/true);
  apply_overrides(json, overrides);
  return from_json<T>(json, path);
}

template <typename T>
Json write_config(const T& config) {
  return detail::Binding<T>::write(config);
}

/// All keys with types, defaults and help, in the order of `visit`.
template <typename T>
std::vector<ConfigKey> config_reference() {
  std::vector<ConfigKey> keys;
  detail::ReferenceWriter writer{"", keys};
  T config{};
  config.visit(writer);
  return keys;
}

}  // namespace vlmamba::io
