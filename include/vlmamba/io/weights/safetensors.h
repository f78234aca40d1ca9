#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::io {

/// One tensor of a safetensors file, in C order, little endian.
struct TensorInfo {
  std::string name;
  std::string dtype;  ///< as in the file: F32, BF16, I64, …
  std::vector<int64_t> shape;
  uint64_t begin, end;  ///< bytes, counted from the end of the header
};

/// "[2, 3]": for messages.
std::string shape_text(const std::vector<int64_t>& shape);

/// Bytes that one element of this dtype takes; 0 for a dtype that is not known.
uint64_t dtype_size(std::string_view dtype);

/// A safetensors file in memory-mapped form. Everything is checked before a tensor is offered: header, names, dtypes,
/// shapes, no gaps, no overlaps, exact file size. Throws Error (weights) naming file and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The tensor's bytes; not aligned to its dtype.
  const std::byte* data(const TensorInfo& tensor) const { return data_ + tensor.begin; }

 private:
  void parse(std::string_view header, uint64_t data_size);

  std::string path_;
  void* mapping_ = nullptr;
  size_t size_ = 0;
  const std::byte* data_ = nullptr;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to write.
struct TensorView {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data;
  size_t bytes;
};

/// The bytes of a safetensors file: header padded to 8, tensors in the order given.
std::string to_safetensors(const std::vector<TensorView>& tensors, const std::map<std::string, std::string>& metadata);

}  // namespace vlmamba::io
