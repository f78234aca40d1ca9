#include "src/app/export/weight_folder.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/model/weights.h"

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

std::string safetensors_bytes(const io::WeightFiles& files) {
  return io::to_safetensors(RenamedTensors(files, [](const std::string& name) { return std::optional(name); }).views,
                            {});
}

void write_safetensors(const io::WeightFiles& files, const std::string& path, const Rename& rename) {
  io::write_file_atomically(path, io::to_safetensors(RenamedTensors(files, rename).views, {}));
  files.check_unchanged();
}

OutputFolder::OutputFolder(const std::string& place) {
  std::error_code failed;
  const fs::path absolute = fs::weakly_canonical(fs::absolute(place, failed), failed);  // what a link names is replaced
  place_ = (absolute.has_filename() ? absolute : absolute.parent_path()).string();
  path_ = place_ + ".unfinished-" + std::to_string(::getpid());
  if (fs::exists(place_, failed) && !(fs::is_directory(place_, failed) && fs::is_empty(place_, failed)))
    throw Error(ExitCode::kUsage, place, "expected a folder that is not there yet or is empty");
  fs::remove_all(path_, failed);
  io::make_folder(path_);
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void OutputFolder::finish(const std::string& part) const {
  const int failure = io::FileSystem::current().rename(part.empty() ? path_ : part, place_);
  if (failure != 0)
    throw Error(ExitCode::kIo, place_, std::string("expected to write the folder, got: ") + std::strerror(failure));
}

void warn_of_non_finite(const io::WeightFiles& files) {
  if (const std::string name = first_non_finite(files); !name.empty())
    log::warn(files.path() + ": NaN or infinity among the weights, first in " + name);
}

void copy_files(const std::string& from, const std::string& to, const std::vector<std::string>& names) {
  for (const auto& name : names)
    if (fs::exists(fs::path(from) / name))
      io::write_file_atomically(to + "/" + name, io::read_file(from + "/" + name, ExitCode::kWeights));
}

}  // namespace vlmamba::app
