#pragma once

#include <string>
#include <vector>

#include "vlmamba/io/json.h"

namespace vlmamba::study {

/// A key in which two configs differ, with both values as JSON; empty where one does not have the key.
struct ConfigDifference {
  std::string key, left, right;
};

/// Every leaf that differs. Elements of arrays are matched by their member "name", else by place.
std::vector<ConfigDifference> config_differences(const io::Json& left, const io::Json& right);

}  // namespace vlmamba::study
