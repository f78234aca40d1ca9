#include "vlmamba/study/config_difference.h"

#include <algorithm>
#include <utility>

namespace vlmamba::study {
namespace {

using io::Json;

// Members of an object, or elements of an array under their names.
std::vector<std::pair<std::string, const Json*>> parts_of(const Json& json) {
  std::vector<std::pair<std::string, const Json*>> parts;
  for (const auto& [key, value] : json.members()) parts.emplace_back(key, &value);
  for (size_t i = 0; i < json.items().size(); ++i) {
    const Json* name = json.items()[i].find("name");
    parts.emplace_back(name && name->is_string() ? name->as_string() : std::to_string(i), &json.items()[i]);
  }
  return parts;
}

bool has_parts(const Json* json) {
  return json && (json->is_object() || (json->is_array() && !json->items().empty() && json->items()[0].is_object()));
}

void compare(const std::string& key, const Json* left, const Json* right, std::vector<ConfigDifference>& found) {
  if (!has_parts(left) && !has_parts(right)) {
    const std::string a = left ? left->to_string() : "", b = right ? right->to_string() : "";
    if (a != b) found.push_back({key, a, b});
    return;
  }
  const auto lefts = has_parts(left) ? parts_of(*left) : decltype(parts_of(*left)){};
  auto rights = has_parts(right) ? parts_of(*right) : decltype(parts_of(*right)){};
  const auto below = [&](const std::string& name) { return key.empty() ? name : key + "." + name; };
  for (const auto& [name, value] : lefts) {
    const auto same = std::find_if(rights.begin(), rights.end(), [&](const auto& part) { return part.first == name; });
    compare(below(name), value, same == rights.end() ? nullptr : same->second, found);
    if (same != rights.end()) rights.erase(same);
  }
  for (const auto& [name, value] : rights) compare(below(name), nullptr, value, found);
}

}  // namespace

std::vector<ConfigDifference> config_differences(const Json& left, const Json& right) {
  std::vector<ConfigDifference> found;
  compare("", &left, &right, found);
  return found;
}

}  // namespace vlmamba::study
