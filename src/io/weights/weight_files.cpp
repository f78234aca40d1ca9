#include "vlmamba/io/weights/weight_files.h"

#include <filesystem>
#include <set>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_manifest.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/weights/safetensors.h"
#include "vlmamba/io/weights/shard_index.h"
#include "vlmamba/io/weights/torch_pickle.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxIndex = uintmax_t{16} << 20;
constexpr std::string_view kIndexSuffix = ".index.json";

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

// The folder that a link of a shard may lead to besides its own: the hub's cache keeps files as
// ROOT/snapshots/REVISION/name -> ROOT/blobs/hash.
fs::path cache_of(const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" ? snapshots.parent_path() / "blobs" : folder;
}

// A shard lies beside its index and nowhere else.
std::string shard_path(const std::string& index, const std::string& name) {
  const std::string where = index + ": " + name.substr(0, 200);
  const fs::path path = fs::path(index).parent_path() / name;
  std::error_code failed;
  if (!fs::exists(path, failed)) refuse(where, "expected a file beside the index, got none: an incomplete download?");
  const fs::path folder = fs::weakly_canonical(fs::absolute(index).parent_path(), failed);
  const fs::path target = fs::weakly_canonical(path, failed);
  if (failed || (target.parent_path() != folder && target.parent_path() != cache_of(folder)))
    refuse(where, "expected a file beside the index, got a link out of its folder");
  return path.string();
}

// transformers counts a storage that tensors share once, or for each of them, and bits of booleans as bits, or as
// bytes.
void check_total(double promised, const std::vector<WeightFiles::Tensor>& tensors, const std::string& index) {
  double least = 0, most = 0;
  std::set<std::pair<const MappedFile*, uint64_t>> storages;
  for (const auto& tensor : tensors) {
    const double bytes = static_cast<double>(tensor.elements()) * static_cast<double>(dtype_size(tensor.dtype));
    most += bytes;
    if (bytes > 0 && storages.emplace(tensor.file, tensor.begin).second)
      least += tensor.dtype == "BOOL" ? bytes / 8 : bytes;
  }
  if (promised >= least && promised <= most) return;
  refuse(index,
         "total_size: expected " + std::to_string(static_cast<uint64_t>(most)) + ", got " + Json(promised).to_string());
}

}  // namespace

std::string find_weights(const std::string& folder) {
  for (const char* name :
       {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (fs::exists(fs::path(folder) / name)) return (fs::path(folder) / name).string();
  return "";
}

WeightFiles::WeightFiles(const std::string& path, std::string_view prefix) : path_(path) {
  if (fs::is_directory(path)) path_ = find_weights(path);
  if (path_.empty())
    refuse(path, "expected model.safetensors, pytorch_model.bin or the index of their shards, got none of them");
  if (path_.ends_with(kIndexSuffix))
    add_shards(path_, prefix);
  else
    add_file(path_, prefix);
  if (path_ != path && fs::exists(fs::path(path) / kManifestName)) {
    for (const auto& [name, file] : read_manifest(path).references) add_file(referenced_path(path, file), prefix);
    path_ = path;
  }
}

void WeightFiles::add_file(const std::string& path, std::string_view prefix) {
  const auto& file = *files_.emplace_back(std::make_unique<MappedFile>(path));
  const auto release = [&](uint64_t begin, uint64_t end) { file.release(begin, end); };
  torch_ = looks_like_torch_file(file.bytes());
  WeightTable table =
      torch_ ? parse_torch_file(file.bytes(), path, prefix, release) : parse_safetensors(file.bytes(), path);
  file.check_unchanged();
  for (auto& tensor : table.tensors) {
    if (!torch_ && !tensor.name.starts_with(prefix)) continue;
    if (!torch_) tensor.name.erase(0, prefix.size());
    if (!index_.emplace(tensor.name, tensors_.size()).second)
      refuse(path + ": " + tensor.name.substr(0, 200), "expected each tensor in one shard, got it in two");
    tensors_.push_back({std::move(tensor), &file});
  }
  metadata_.merge(table.metadata);
}

void WeightFiles::add_shards(const std::string& index, std::string_view prefix) {
  std::error_code failed;
  if (const auto size = fs::file_size(index, failed); failed || size > kMaxIndex)
    refuse(index, "expected an index of at most 16 MiB");
  const ShardIndex promises = parse_shard_index(read_file(index, ExitCode::kWeights), index);
  for (const auto& [shard, promised] : promises.shards) {
    const size_t first = tensors_.size();
    const std::string path = shard_path(index, shard);
    add_file(path, {});
    std::set<std::string> found;
    for (size_t i = first; i < tensors_.size(); ++i) {
      found.insert(tensors_[i].name);
      if (!promised.contains(tensors_[i].name))
        refuse(path + ": " + tensors_[i].name.substr(0, 200),
               "expected the tensors of the index, got one that it lacks");
    }
    for (const auto& name : promised)
      if (!found.contains(name)) refuse(path, "expected the tensor " + name.substr(0, 200) + " of the index, got none");
  }
  if (promises.total_size) check_total(*promises.total_size, tensors_, index);
  if (prefix.empty()) return;
  std::vector<Tensor> kept;
  index_.clear();
  for (auto& tensor : tensors_) {
    if (!tensor.name.starts_with(prefix)) continue;
    tensor.name.erase(0, prefix.size());
    index_[tensor.name] = kept.size();
    kept.push_back(std::move(tensor));
  }
  tensors_ = std::move(kept);
}

std::string WeightFiles::format() const {
  const std::string kind = torch_ ? "torch" : "safetensors";
  const std::string pieces = path_.ends_with(kIndexSuffix) ? " shards" : " files";
  return files_.size() == 1 ? kind : kind + ", " + std::to_string(files_.size()) + pieces;
}

const WeightFiles::Tensor* WeightFiles::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void WeightFiles::check_unchanged() const {
  for (const auto& file : files_) file->check_unchanged();
}

}  // namespace vlmamba::io
