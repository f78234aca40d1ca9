#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/io/mapped_file.h"
#include "vlmamba/io/weights/tensor_info.h"

namespace vlmamba::io {

/// The tensors of a checkpoint: of a safetensors file or a file of torch.save, told apart by content, or of a folder
/// that holds `model.safetensors` or `pytorch_model.bin`, whole or in shards with an index; of a checkpoint of this
/// program also those of the parts that it refers to. Everything is checked when it is opened, index against shards
/// too. Throws Error (weights).
class WeightFiles {
 public:
  /// `prefix` selects tensors of a file of torch.save, see parse_torch_file; of safetensors likewise.
  explicit WeightFiles(const std::string& path, std::string_view prefix = {});

  struct Tensor : TensorInfo {
    const MappedFile* file;
    /// The first element's bytes; not aligned to the dtype.
    const std::byte* data() const { return reinterpret_cast<const std::byte*>(file->bytes().data()) + begin; }
  };

  const std::string& path() const { return path_; }
  /// "safetensors", "torch", "safetensors, 3 shards", or of a checkpoint "safetensors, 3 files": for messages.
  std::string format() const;
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Throws Error (weights) if a file was written to since it was opened.
  void check_unchanged() const;

 private:
  void add_file(const std::string& path, std::string_view prefix);
  void add_shards(const std::string& index, std::string_view prefix);

  std::string path_;
  bool torch_ = false;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<Tensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

/// The weight file of a folder, or the index of its shards; empty where there is none.
std::string find_weights(const std::string& folder);

}  // namespace vlmamba::io
