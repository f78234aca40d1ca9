#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/io/mapped_file.h"
#include "vlmamba/io/weights/tensor_info.h"

namespace vlmamba::io {

/// What a weight file holds.
struct WeightTable {
  std::vector<TensorInfo> tensors;              ///< in the order of the file
  std::map<std::string, std::string> metadata;  ///< safetensors' __metadata__
};

/// Reads the header of a safetensors file that lies in memory. Everything is checked: header, names, dtypes, shapes,
/// offsets, no gaps, no overlaps, exact size. Throws Error (weights) that names `where` and the tensor or the byte.
WeightTable parse_safetensors(std::string_view bytes, const std::string& where);

/// A safetensors file, mapped and checked as a whole. Throws Error (weights).
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<TensorInfo>& tensors() const { return table_.tensors; }
  const TensorInfo* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return table_.metadata; }
  /// The tensor's bytes; not aligned to its dtype.
  const std::byte* data(const TensorInfo& tensor) const {
    return reinterpret_cast<const std::byte*>(file_.bytes().data()) + tensor.begin;
  }

 private:
  MappedFile file_;
  WeightTable table_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// A tensor to write.
struct TensorView {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data;
  size_t bytes;
};

/// What stands before the data of a safetensors file of these tensors, in this order: length and header, padded to 8.
/// `data` of the views is not read.
std::string safetensors_header(const std::vector<TensorView>& tensors,
                               const std::map<std::string, std::string>& metadata);

/// The bytes of a safetensors file.
std::string to_safetensors(const std::vector<TensorView>& tensors, const std::map<std::string, std::string>& metadata);

}  // namespace vlmamba::io
