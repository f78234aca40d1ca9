#include "vlmamba/model/weights.h"

#include <ATen/ATen.h>

#include <array>
#include <cstring>
#include <set>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 6> kTypes{{{"F32", at::kFloat},
                                                                             {"BF16", at::kBFloat16},
                                                                             {"F16", at::kHalf},
                                                                             {"F64", at::kDouble},
                                                                             {"I64", at::kLong},
                                                                             {"I32", at::kInt}}};
constexpr size_t kMaxNames = 20;

Tensor read_tensor(const io::SafetensorsFile& file, const io::TensorInfo& info) {
  for (const auto& [name, type] : kTypes)
    if (name == info.dtype) {
      Tensor tensor = at::empty(info.shape, at::TensorOptions(type));
      if (info.end > info.begin) std::memcpy(tensor.mutable_data_ptr(), file.data(info), info.end - info.begin);
      return tensor;
    }
  throw Error(ExitCode::kWeights, file.path() + ": " + info.name,
              "expected a floating-point tensor, got " + info.dtype);
}

// What keeps file and module apart, a line a tensor.
class Differences {
 public:
  void add(const std::string& line) {
    if (++count_ <= kMaxNames) text_ += "\n    " + line;
  }
  void throw_if_any(const std::string& path) const {
    if (count_ == 0) return;
    const std::string rest = count_ > kMaxNames ? "\n    and " + std::to_string(count_ - kMaxNames) + " more" : "";
    throw Error(ExitCode::kWeights, path,
                "expected the tensors of the model, got " + std::to_string(count_) + " differences:" + text_ + rest);
  }

 private:
  size_t count_ = 0;
  std::string text_;
};

}  // namespace

std::string tensors_to_safetensors(const NamedTensors& tensors) {
  std::vector<Tensor> kept;
  std::vector<io::TensorView> views;
  for (const auto& [name, original] : tensors) {
    const Tensor& tensor = kept.emplace_back(original.detach().cpu().contiguous());
    std::string_view dtype = "F32";
    for (const auto& [spelling, type] : kTypes)
      if (type == tensor.scalar_type()) dtype = spelling;
    views.push_back({name, std::string(dtype), tensor.sizes().vec(), tensor.const_data_ptr(), tensor.nbytes()});
  }
  return io::to_safetensors(views, {});
}

void copy_from_safetensors(const NamedTensors& tensors, const std::string& path) {
  const io::SafetensorsFile file(path);
  std::set<std::string> names;
  Differences differences;
  for (const auto& [name, tensor] : tensors) {
    names.insert(name);
    const auto* info = file.find(name);
    if (info == nullptr)
      differences.add("missing      " + name + " " + io::shape_text(tensor.sizes().vec()));
    else if (!tensor.sizes().equals(info->shape))
      differences.add("wrong shape  " + name + ": expected " + io::shape_text(tensor.sizes().vec()) + ", got " +
                      io::shape_text(info->shape));
  }
  for (const auto& info : file.tensors())
    if (!names.contains(info.name)) differences.add("unexpected   " + info.name + " " + io::shape_text(info.shape));
  differences.throw_if_any(path);
  std::vector<Tensor> read;
  for (const auto& [name, tensor] : tensors) read.push_back(read_tensor(file, *file.find(name)));
  const c10::AutoGradMode no_grad(false);
  for (size_t i = 0; i < read.size(); ++i) Tensor(tensors[i].second).copy_(read[i]);
}

NamedTensors named_parameters(const torch::nn::Module& module) {
  NamedTensors tensors;
  for (const auto& parameter : module.named_parameters()) tensors.emplace_back(parameter.key(), parameter.value());
  return tensors;
}

void load_weights(torch::nn::Module& module, const std::string& path) {
  copy_from_safetensors(named_parameters(module), path);
}

void save_weights(const torch::nn::Module& module, const std::string& path) {
  io::write_file_atomically(path, tensors_to_safetensors(named_parameters(module)));
}

}  // namespace vlmamba
