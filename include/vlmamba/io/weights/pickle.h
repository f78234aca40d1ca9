#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::io {

/// What a pickle describes, as data: a tree of nodes that refer to each other by index. Nothing is ever called; the
/// objects of Python that a pickle may name are the ones below, every other name is refused.
struct PickleNode {
  enum class Kind : uint8_t {
    kNone,
    kBool,        ///< integer
    kInteger,     ///< integer
    kNumber,      ///< whose value nobody asks for
    kString,      ///< text, a view into the pickle
    kTuple,       ///< items
    kList,        ///< items
    kDict,        ///< items: key, value, key, value, …
    kSet,         ///< always empty
    kGlobal,      ///< text: "module name"
    kCall,        ///< items: a global and the tuple of its arguments
    kPersistent,  ///< items: the tuple that names a storage
  };
  Kind kind = Kind::kNone;
  bool ordered = false;  ///< a dict that is an OrderedDict
  uint32_t items = 0;    ///< index into Pickle::lists
  int64_t integer = 0;
  std::string_view text;
};

struct Pickle {
  std::vector<PickleNode> nodes;
  std::vector<std::vector<uint32_t>> lists;  ///< members of containers, indices of nodes
  uint32_t root = 0;

  const PickleNode& operator[](uint32_t index) const { return nodes[index]; }
  const std::vector<uint32_t>& items(const PickleNode& node) const { return lists[node.items]; }
};

/// Reads a pickle of protocol 2 that lies in memory with the opcodes and the names that torch.save writes for tensors;
/// at most 1,000,000 nodes. The strings are views into `bytes`. Throws Error (weights) that names the opcode or the
/// name, and its byte.
Pickle read_pickle(std::string_view bytes, const std::string& where);

}  // namespace vlmamba::io
