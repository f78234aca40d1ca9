#pragma once

#include <string>
#include <vector>

#include "vlmamba/io/json.h"

namespace vlmamba::io {

/// A key that two configs have different values of, as --set names it. "none" where one has no such key.
struct ConfigDifference {
  std::string key, before, after;

  std::string to_string() const { return key + ": " + before + " -> " + after; }
};

/// All differences of two configs, key by key, in the order of `before`. Elements of arrays are told apart by their
/// member "name" where they have one; those whose place among the named changed differ as a whole in the key
/// ARRAY.NAME.place.
std::vector<ConfigDifference> config_differences(const Json& before, const Json& after);

}  // namespace vlmamba::io
