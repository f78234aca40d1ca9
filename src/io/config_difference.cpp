#include "vlmamba/io/config_difference.h"

#include <algorithm>

namespace vlmamba::io {
namespace {

constexpr size_t kMaxShown = 80;

std::string shown(const Json* value) {
  if (value == nullptr) return "none";
  const std::string text = value->to_string();
  return text.size() <= kMaxShown ? text : text.substr(0, kMaxShown) + "…";
}

bool has_names(const Json& array) {
  return !array.items().empty() && std::all_of(array.items().begin(), array.items().end(), [](const Json& item) {
    const Json* name = item.find("name");
    return name != nullptr && name->is_string();
  });
}

// An array of named elements as an object.
Json by_name(const Json& array) {
  Json object = Json::object();
  for (size_t i = 0; i < array.items().size(); ++i) {
    Json element = array.items()[i];
    const std::string name = element.find("name")->as_string();
    element.set("place", static_cast<int64_t>(i));
    object.set(name, std::move(element));
  }
  return object;
}

void compare(const Json* before, const Json* after, const std::string& key, std::vector<ConfigDifference>& found) {
  if (before != nullptr && after != nullptr) {
    if (before->is_object() && after->is_object()) {
      const auto inside = [&](const std::string& name) { return key.empty() ? name : key + "." + name; };
      for (const auto& [name, value] : before->members()) compare(&value, after->find(name), inside(name), found);
      for (const auto& [name, value] : after->members())
        if (before->find(name) == nullptr) compare(nullptr, &value, inside(name), found);
      return;
    }
    if (before->is_array() && after->is_array() && (has_names(*before) || has_names(*after))) {
      const bool comparable =
          (before->items().empty() || has_names(*before)) && (after->items().empty() || has_names(*after));
      if (comparable) {
        const Json first = by_name(*before), second = by_name(*after);
        return compare(&first, &second, key, found);
      }
    }
    if (before->to_string() == after->to_string()) return;
  }
  found.push_back({key, shown(before), shown(after)});
}

}  // namespace

std::vector<ConfigDifference> config_differences(const Json& before, const Json& after) {
  std::vector<ConfigDifference> found;
  compare(&before, &after, "", found);
  return found;
}

}  // namespace vlmamba::io
