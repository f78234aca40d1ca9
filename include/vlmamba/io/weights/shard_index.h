#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace vlmamba::io {

/// What `model.safetensors.index.json` (or that of torch's shards) says.
struct ShardIndex {
  std::map<std::string, std::set<std::string>> shards;  ///< the tensors that each file beside the index must hold
  std::optional<double> total_size;                     ///< bytes of all tensors
};

/// Reads an index that lies in memory. Throws Error (weights), also for shards that are not plain names of files.
ShardIndex parse_shard_index(std::string_view text, const std::string& where);

}  // namespace vlmamba::io
