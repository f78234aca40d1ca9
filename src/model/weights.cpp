#include "vlmamba/model/weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "vlmamba/core/error.h"
#include "vlmamba/core/text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 15> kTypes{{{"F32", at::kFloat},
                                                                              {"BF16", at::kBFloat16},
                                                                              {"F16", at::kHalf},
                                                                              {"F64", at::kDouble},
                                                                              {"I64", at::kLong},
                                                                              {"I32", at::kInt},
                                                                              {"I16", at::kShort},
                                                                              {"I8", at::kChar},
                                                                              {"U8", at::kByte},
                                                                              {"BOOL", at::kBool},
                                                                              {"U16", at::kUInt16},
                                                                              {"U32", at::kUInt32},
                                                                              {"U64", at::kUInt64},
                                                                              {"F8_E4M3", at::kFloat8_e4m3fn},
                                                                              {"F8_E5M2", at::kFloat8_e5m2}}};
constexpr size_t kMaxOfAKind = 10;
constexpr int64_t kPart = int64_t{16} << 20;  // bytes copied before their pages are given back

at::ScalarType type_of(const io::TensorInfo& info, const std::string& where) {
  for (const auto& [name, type] : kTypes)
    if (name == info.dtype) return type;
  throw Error(ExitCode::kWeights, where + ": " + info.name, "expected a tensor of a known type, got " + info.dtype);
}

// What keeps file and module apart, a line a tensor, and some lines of every kind.
class Differences {
 public:
  void add(const std::string& kind, const std::string& line) {
    ++count_;
    if (++of_kind_[kind] > kMaxOfAKind) return;
    text_ += "\n    " + kind + std::string(13 - kind.size(), ' ') + printable(line);
    ++shown_;
  }
  void throw_if_any(const std::string& path) const {
    if (count_ == 0) return;
    const std::string rest = count_ > shown_ ? "\n    and " + std::to_string(count_ - shown_) + " more" : "";
    throw Error(ExitCode::kWeights, path,
                "expected the tensors of the model, got " + std::to_string(count_) + " differences:" + text_ + rest);
  }

 private:
  size_t count_ = 0, shown_ = 0;
  std::map<std::string, size_t> of_kind_;
  std::string text_;
};

// Which tensor of a file each of ours is, by name.
using Matches = std::map<std::string, size_t>;

std::string hint(const std::string& name, const std::vector<std::string>& unexpected) {
  const std::string near = nearest(name, unexpected);
  return near.empty() ? "" : "; the file has " + near;
}

Matches match(const NamedTensors& tensors, const std::vector<const io::TensorInfo*>& stored, const std::string& where,
              const NameMap& map) {
  Matches found;
  Differences differences;
  for (size_t i = 0; i < stored.size(); ++i) {
    const auto name = map ? map(stored[i]->name) : std::optional(stored[i]->name);
    if (name && !found.emplace(*name, i).second)
      differences.add("twice", *name + ": as " + stored[found[*name]]->name + " and as " + stored[i]->name);
  }
  Matches wanted;
  for (const auto& [name, tensor] : tensors)
    if (const auto at = found.find(name); at != found.end()) wanted.insert(*at);
  std::vector<std::string> unexpected;
  for (const auto& [name, index] : found)
    if (!wanted.contains(name)) unexpected.push_back(stored[index]->name);
  for (const auto& [name, tensor] : tensors) {
    const std::string shape = io::shape_text(tensor.sizes().vec());
    const auto at = wanted.find(name);
    if (at == wanted.end())
      differences.add("missing", name + " " + shape + hint(name, unexpected));
    else if (!tensor.sizes().equals(stored[at->second]->shape))
      differences.add("wrong shape",
                      name + ": expected " + shape + ", got " + io::shape_text(stored[at->second]->shape));
  }
  for (const auto& [name, index] : found)
    if (!wanted.contains(name))
      differences.add("unexpected", stored[index]->name + " " + io::shape_text(stored[index]->shape));
  differences.throw_if_any(where);
  return wanted;
}

std::vector<const io::TensorInfo*> tensors_of(const io::WeightFiles& files) {
  std::vector<const io::TensorInfo*> tensors;
  for (const auto& tensor : files.tensors()) tensors.push_back(&tensor);
  return tensors;
}

// Gives a tensor's elements in C order, part by part (first, part [count]), so that neither a second copy of the tensor
// nor all of its file lies in memory at once.
template <typename Use>
void read_in_parts(const io::WeightFiles::Tensor& from, const std::string& where, const Use& use) {
  const auto type = type_of(from, where);
  const auto size = static_cast<int64_t>(c10::elementSize(type));
  const int64_t elements = from.elements();
  if (elements == 0) return;
  if (!from.strides.empty() || reinterpret_cast<uintptr_t>(from.data()) % c10::elementSize(type) != 0) {
    use(0, read_tensor(from).view({-1}));
    return from.file->release(from.begin, from.end);
  }
  for (int64_t first = 0; first < elements; first += kPart / size) {
    const int64_t count = std::min(kPart / size, elements - first);
    auto* data = const_cast<std::byte*>(from.data()) + first * size;  // never written to
    use(first, at::from_blob(data, {count}, at::TensorOptions(type)));
    const uint64_t begin = from.begin + static_cast<uint64_t>(first * size);
    from.file->release(begin, begin + static_cast<uint64_t>(count * size));
  }
}

void copy_tensor(const Tensor& to, const io::WeightFiles::Tensor& from, const std::string& where) {
  const Tensor flat = to.view({-1});
  read_in_parts(from, where,
                [&](int64_t first, const Tensor& part) { flat.slice(0, first, first + part.numel()).copy_(part); });
}

}  // namespace

io::Content safetensors_content(const NamedTensors& tensors) {
  std::vector<io::TensorView> views;
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    std::string_view dtype = "F32";
    for (const auto& [spelling, type] : kTypes)
      if (type == tensor.scalar_type()) dtype = spelling;
    const auto size = static_cast<size_t>(tensor.numel()) * tensor.element_size();
    views.push_back({name, std::string(dtype), tensor.sizes().vec(), nullptr, size});
    bytes += size;
  }
  std::string header = io::safetensors_header(views, {});
  bytes += header.size();
  return {bytes, [header = std::move(header), tensors](const io::Sink& sink) {
            sink(header);
            for (const auto& [name, original] : tensors) {
              const Tensor tensor = original.detach().cpu().contiguous();
              sink({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
            }
          }};
}

std::string tensors_to_safetensors(const NamedTensors& tensors) {
  std::string bytes;
  safetensors_content(tensors).write([&](std::string_view part) { bytes += part; });
  return bytes;
}

Tensor read_tensor(const io::WeightFiles::Tensor& tensor) {
  const auto type = type_of(tensor, tensor.file->path());
  const auto size = static_cast<int64_t>(c10::elementSize(type));
  if (tensor.elements() == 0) return at::empty(tensor.shape, at::TensorOptions(type));
  const auto bytes = static_cast<int64_t>(tensor.end - tensor.begin);
  Tensor storage = at::empty({bytes / size}, at::TensorOptions(type));  // aligned, unlike the file
  std::memcpy(storage.mutable_data_ptr(), tensor.data(), static_cast<size_t>(bytes));
  return tensor.strides.empty() ? storage.view(tensor.shape)
                                : storage.as_strided(tensor.shape, tensor.strides).contiguous();
}

void check_weights(const NamedTensors& tensors, const std::vector<io::TensorInfo>& stored, const std::string& where,
                   const NameMap& map) {
  std::vector<const io::TensorInfo*> pointers;
  for (const auto& info : stored) pointers.push_back(&info);
  match(tensors, pointers, where, map);
}

void check_weights(const NamedTensors& tensors, const io::WeightFiles& files, const NameMap& map) {
  match(tensors, tensors_of(files), files.path(), map);
}

void copy_weights(const NamedTensors& tensors, const io::WeightFiles& files, const NameMap& map) {
  const auto stored = tensors_of(files);
  const Matches matches = match(tensors, stored, files.path(), map);
  for (const auto& [name, index] : matches) type_of(*stored[index], files.path());
  const c10::AutoGradMode no_grad(false);
  std::map<std::string_view, Tensor> ours;
  for (const auto& [name, tensor] : tensors) ours.emplace(name, tensor);
  for (const auto& [name, index] : matches) copy_tensor(ours.at(name), files.tensors()[index], files.path());
  files.check_unchanged();
}

std::string first_non_finite(const io::WeightFiles& files) {
  for (const auto& tensor : files.tensors()) {
    bool finite = true;
    if (!at::isFloatingType(type_of(tensor, files.path()))) continue;
    read_in_parts(tensor, files.path(), [&](int64_t, const Tensor& part) {
      finite = finite && part.to(at::kFloat).mul(0).sum().item<float>() == 0;  // 0 times NaN or infinity is NaN
    });
    if (!finite) return tensor.name;
  }
  return "";
}

NamedTensors named_parameters(const torch::nn::Module& module) {
  NamedTensors tensors;
  for (const auto& parameter : module.named_parameters()) tensors.emplace_back(parameter.key(), parameter.value());
  return tensors;
}

void load_weights(torch::nn::Module& module, const std::string& path, const NameMap& map) {
  copy_weights(named_parameters(module), io::WeightFiles(path), map);
}

void save_weights(const torch::nn::Module& module, const std::string& path) {
  io::write_file_atomically(path, safetensors_content(named_parameters(module)));
}

}  // namespace vlmamba
