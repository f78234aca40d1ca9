#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "vlmamba/core/error.h"
#include "vlmamba/io/weights/pickle.h"
#include "vlmamba/io/weights/torch_pickle.h"

namespace vlmamba::io {
namespace {

using Kind = PickleNode::Kind;
using Names = std::pair<std::string_view, std::string_view>;

constexpr int kMaxDepth = 64;
constexpr uint64_t kMaxNameBytes = uint64_t{64} << 20;
constexpr std::array<Names, 10> kStorages{{{"torch\nFloatStorage", "F32"},
                                           {"torch\nDoubleStorage", "F64"},
                                           {"torch\nHalfStorage", "F16"},
                                           {"torch\nBFloat16Storage", "BF16"},
                                           {"torch\nLongStorage", "I64"},
                                           {"torch\nIntStorage", "I32"},
                                           {"torch\nShortStorage", "I16"},
                                           {"torch\nCharStorage", "I8"},
                                           {"torch\nByteStorage", "U8"},
                                           {"torch\nBoolStorage", "BOOL"}}};
// Types younger than the storage classes: the storage is bytes, and the tensor names its type.
constexpr std::array<Names, 5> kTypes{{{"torch\nfloat8_e4m3fn", "F8_E4M3"},
                                       {"torch\nfloat8_e5m2", "F8_E5M2"},
                                       {"torch\nuint16", "U16"},
                                       {"torch\nuint32", "U32"},
                                       {"torch\nuint64", "U64"}}};

template <size_t N>
std::string dtype_of(const std::array<Names, N>& table, std::string_view name) {
  for (const auto& [python, ours] : table)
    if (python == name) return std::string(ours);
  return {};
}

class TensorReader {
 public:
  TensorReader(const Pickle& pickle, const std::vector<TorchStorage>& storages, uint64_t file_size,
               const std::string& where, std::string_view prefix)
      : pickle_(pickle), where_(where), prefix_(prefix), file_size_(file_size) {
    for (const auto& storage : storages) storages_[storage.key] = &storage;
  }

  WeightTable read() {
    const auto& root = pickle_[pickle_.root];
    if (root.kind != Kind::kDict) refuse(where_, "expected a dict of tensors, got something else");
    read_dict(pickle_.root, "", 0);
    return {std::move(tensors_), {}};
  }

 private:
  [[noreturn]] static void refuse(const std::string& where, const std::string& message) {
    throw Error(ExitCode::kWeights, where, message);
  }
  std::string at(const std::string& name) const { return where_ + ": " + name.substr(0, 200); }

  void read_dict(uint32_t index, const std::string& path, int depth) {
    if (depth == kMaxDepth) refuse(at(path), "expected at most 64 levels of dicts, got more");
    if (!dicts_.insert(index).second) refuse(at(path), "expected each dict in one place, got it twice");
    const auto& items = pickle_.items(pickle_[index]);
    for (size_t i = 0; i < items.size(); i += 2) {
      const auto& key = pickle_[items[i]];
      if (key.kind != Kind::kString) {
        if (prefix_.empty()) refuse(at(path), "expected names as keys, got something else");
        continue;
      }
      const std::string name = path.empty() ? std::string(key.text) : path + "." + std::string(key.text);
      if (name.size() > kMaxTensorName) refuse(at(name), "expected a name of at most 4096 bytes, got more");
      if ((name_bytes_ += name.size()) > kMaxNameBytes) refuse(where_, "expected at most 64 MiB of names, got more");
      read_value(items[i + 1], name, depth);
    }
  }

  void read_value(uint32_t index, const std::string& name, int depth) {
    const auto& node = pickle_[index];
    if (node.kind == Kind::kDict) return read_dict(index, name, depth + 1);
    if (!name.starts_with(prefix_)) return;
    if (node.kind != Kind::kCall) refuse(at(name), "expected a tensor or a dict, got something else");
    TensorInfo tensor = read_tensor(node, at(name));
    tensor.name = name.substr(prefix_.size());
    if (tensor.name.empty() || tensor.name.find('\0') != std::string::npos)
      refuse(at(name), "expected a name behind the prefix, without NUL");
    if (!names_.insert(tensor.name).second) refuse(at(name), "expected each name once, got it twice");
    if (tensors_.size() == kMaxTensors) refuse(where_, "expected at most 1,000,000 tensors, got more");
    tensors_.push_back(std::move(tensor));
  }

  const std::vector<uint32_t>& arguments(const PickleNode& call) const {
    return pickle_.items(pickle_[pickle_.items(call)[1]]);
  }

  TensorInfo read_tensor(const PickleNode& call, const std::string& where) {
    const std::string_view function = pickle_[pickle_.items(call)[0]].text;
    const auto& x = arguments(call);
    if (function == "torch._utils\n_rebuild_parameter") {
      const bool fits = x.size() == 3 && pickle_[x[0]].kind == Kind::kCall &&
                        pickle_[pickle_.items(pickle_[x[0]])[0]].text.starts_with("torch._utils\n_rebuild_tensor_v");
      if (!fits) refuse(where, "expected a Parameter of one tensor, got something else");
      return read_tensor(pickle_[x[0]], where);
    }
    const bool typed = function == "torch._utils\n_rebuild_tensor_v3";  // dtype and metadata behind the hooks
    const size_t plain = typed ? 7 : 6;
    if (x.size() != plain && x.size() != plain + 1)
      refuse(where, "expected " + std::to_string(plain) + " arguments of a tensor, got " + std::to_string(x.size()));
    if (pickle_[x[4]].kind != Kind::kBool || !is_empty(pickle_[x[5]]) ||
        (x.size() > plain && !is_empty(pickle_[x[plain]])))
      refuse(where, "expected a tensor without hooks and metadata, got some");
    const int64_t offset = size_of(x[1], "offset", where);
    TensorInfo tensor{
        .name = {}, .dtype = {}, .shape = sizes_of(x[2], "size", where), .strides = sizes_of(x[3], "stride", where)};
    if (tensor.strides.size() != tensor.shape.size()) refuse(where, "expected a stride for each dimension");
    place(tensor, x[0], offset, typed ? dtype_of(kTypes, pickle_[x[6]].text) : "", where);
    return tensor;
  }

  bool is_empty(const PickleNode& node) const {
    return node.kind == Kind::kNone || (node.kind == Kind::kDict && pickle_.items(node).empty());
  }

  int64_t size_of(uint32_t index, const char* what, const std::string& where) const {
    constexpr int64_t kMax = int64_t{1} << 48;
    const auto& node = pickle_[index];
    if (node.kind != Kind::kInteger || node.integer < 0 || node.integer > kMax)
      refuse(where, std::string(what) + ": expected a whole number of 0 to 2^48, got something else");
    return node.integer;
  }

  std::vector<int64_t> sizes_of(uint32_t index, const char* what, const std::string& where) const {
    const auto& node = pickle_[index];
    if (node.kind != Kind::kTuple) refuse(where, std::string(what) + ": expected a tuple, got something else");
    if (pickle_.items(node).size() > kMaxRank) refuse(where, std::string(what) + ": expected at most 8 dimensions");
    std::vector<int64_t> sizes;
    for (const uint32_t item : pickle_.items(node)) sizes.push_back(size_of(item, what, where));
    return sizes;
  }

  // Finds the storage that ('storage', type, key, location, number of elements) names, and the tensor's bytes in it.
  void place(TensorInfo& tensor, uint32_t persistent, int64_t offset, std::string dtype, const std::string& where) {
    const auto& node = pickle_[persistent];
    const auto* id = node.kind == Kind::kPersistent ? &pickle_[pickle_.items(node)[0]] : nullptr;
    if (id == nullptr || id->kind != Kind::kTuple || pickle_.items(*id).size() != 5)
      refuse(where, "expected a storage of 5 parts, got something else");
    const auto& parts = pickle_.items(*id);
    const auto &kind = pickle_[parts[0]], &type = pickle_[parts[1]], &key = pickle_[parts[2]];
    if (kind.kind != Kind::kString || kind.text != "storage" || type.kind != Kind::kGlobal || key.kind != Kind::kString)
      refuse(where, "expected ('storage', type, key, location, size), got something else");
    const bool bytes = type.text == "torch.storage\nUntypedStorage";
    tensor.dtype = bytes ? std::move(dtype) : dtype_of(kStorages, type.text);
    const uint64_t size = dtype_size(tensor.dtype);
    if (size == 0) refuse(where, "expected a storage of a known type, got another");
    const auto found = storages_.find(std::string(key.text.substr(0, 64)));
    if (found == storages_.end())
      refuse(where, "expected the storage data/" + std::string(key.text.substr(0, 64)) + ", got none");
    const TorchStorage& storage = *found->second;
    const auto count = static_cast<uint64_t>(size_of(parts[4], "storage", where));
    const uint64_t storage_bytes = storage.end - storage.begin;
    if (count * (bytes ? 1 : size) != storage_bytes)
      refuse(where, "expected a storage of " + std::to_string(count * (bytes ? 1 : size)) + " bytes, got " +
                        std::to_string(storage_bytes));
    const uint64_t total = tensor_bytes(tensor.shape, size, where);
    if ((materialised_ += total) > 2 * file_size_)
      refuse(where, "expected tensors of at most twice the file, got more: storages are shared too often");
    const uint64_t last = last_element(tensor, static_cast<uint64_t>(offset), storage_bytes / size, where);
    tensor.begin = total == 0 ? storage.begin : storage.begin + static_cast<uint64_t>(offset) * size;
    tensor.end = total == 0 ? storage.begin : storage.begin + (last + 1) * size;
    if (is_c_order(tensor)) tensor.strides.clear();
  }

  static uint64_t last_element(const TensorInfo& tensor, uint64_t offset, uint64_t count, const std::string& where) {
    if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end()) return 0;
    uint64_t last = offset;
    for (size_t i = 0; i < tensor.shape.size() && last < count; ++i) {
      const auto steps = static_cast<uint64_t>(tensor.shape[i] - 1), stride = static_cast<uint64_t>(tensor.strides[i]);
      last = steps != 0 && stride > count / steps ? count : last + steps * stride;
    }
    if (last >= count)
      refuse(where, "expected elements inside its storage of " + std::to_string(count) + ", got some behind it");
    return last;
  }

  static bool is_c_order(const TensorInfo& tensor) {
    int64_t stride = 1;
    for (size_t i = tensor.shape.size(); i-- > 0;) {
      if (tensor.shape[i] != 1 && tensor.strides[i] != stride) return tensor.elements() == 0;
      stride *= tensor.shape[i];
    }
    return true;
  }

  const Pickle& pickle_;
  const std::string& where_;
  std::string_view prefix_;
  uint64_t file_size_, materialised_ = 0, name_bytes_ = 0;
  std::unordered_map<std::string, const TorchStorage*> storages_;
  std::unordered_set<uint32_t> dicts_;
  std::unordered_set<std::string> names_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace

WeightTable read_torch_tensors(std::string_view pickle, const std::vector<TorchStorage>& storages, uint64_t file_size,
                               const std::string& where, std::string_view prefix) {
  const Pickle tree = read_pickle(pickle, where);
  return TensorReader(tree, storages, file_size, where, prefix).read();
}

}  // namespace vlmamba::io
