#include "src/app/export/weight_folder.h"

#include <cstring>
#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;
using Tensor = io::WeightFiles::Tensor;

bool in_c_order(const Tensor& tensor) {
  int64_t expected = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.strides.empty()) return true;
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// The elements in C order, one by one.
std::string gathered(const Tensor& tensor) {
  const auto size = static_cast<size_t>(io::dtype_size(tensor.dtype));
  std::string bytes(static_cast<size_t>(tensor.elements()) * size, '\0');
  std::vector<int64_t> at(tensor.shape.size(), 0);
  for (size_t done = 0; done < bytes.size(); done += size) {
    int64_t offset = 0;
    for (size_t i = 0; i < at.size(); ++i) offset += at[i] * tensor.strides[i];
    std::memcpy(bytes.data() + done, tensor.data() + static_cast<size_t>(offset) * size, size);
    for (size_t i = at.size(); i-- > 0;) {
      if (++at[i] < tensor.shape[i]) break;
      at[i] = 0;
    }
  }
  return bytes;
}

}  // namespace

RenamedTensors::RenamedTensors(const io::WeightFiles& files, const Rename& rename) {
  for (const Tensor& tensor : files.tensors()) {
    const auto name = rename(tensor.name);
    if (!name) continue;
    const size_t bytes = static_cast<size_t>(tensor.elements()) * static_cast<size_t>(io::dtype_size(tensor.dtype));
    const void* data = tensor.data();
    if (!in_c_order(tensor)) data = gathered_.emplace_back(gathered(tensor)).data();
    views.push_back({*name, tensor.dtype, tensor.shape, data, bytes});
  }
  if (views.empty()) throw Error(ExitCode::kWeights, files.path(), "expected tensors, got none");
}

void write_safetensors(const io::WeightFiles& files, const std::string& path, const Rename& rename) {
  io::write_file_atomically(path, io::to_safetensors(RenamedTensors(files, rename).views, {}));
  files.check_unchanged();
}

void make_output_folder(const std::string& folder) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed || !fs::is_directory(folder) || !fs::is_empty(folder))
    throw Error(ExitCode::kUsage, folder, "expected a folder that is not there yet or is empty");
}

void copy_files(const std::string& from, const std::string& to, const std::vector<std::string>& names) {
  for (const auto& name : names)
    if (fs::exists(fs::path(from) / name))
      io::write_file_atomically(to + "/" + name, io::read_file(from + "/" + name, ExitCode::kWeights));
}

}  // namespace vlmamba::app
