#include "vlmamba/io/weights/shard_index.h"

#include "vlmamba/core/error.h"
#include "vlmamba/io/json.h"

namespace vlmamba::io {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

}  // namespace

ShardIndex parse_shard_index(std::string_view text, const std::string& where) {
  ShardIndex index;
  const Json json = parse_json(text, where, ExitCode::kWeights);
  const Json& map = require(json, "weight_map", Json::Kind::kObject, where, ExitCode::kWeights);
  for (const auto& [name, shard] : map.members()) {
    if (!shard.is_string()) refuse(where + ": " + name.substr(0, 200), "expected the name of a file");
    const std::string& file = shard.as_string();
    if (file.empty() || file.find('/') != std::string::npos || file.find('\0') != std::string::npos || file == "." ||
        file == "..")
      refuse(where + ": " + shard.to_string().substr(0, 200),
             "expected the name of a file beside the index, got a path");
    index.shards[file].insert(name);
  }
  if (index.shards.empty()) refuse(where, "weight_map: expected tensors, got none");
  const Json* about = json.find("metadata");
  if (const Json* total = about != nullptr ? about->find("total_size") : nullptr; total != nullptr) {
    if (!total->is_number()) refuse(where, "total_size: expected a number, got " + total->to_string().substr(0, 40));
    index.total_size = total->as_number();
  }
  return index;
}

}  // namespace vlmamba::io
