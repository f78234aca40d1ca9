#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::io {

/// Where a tensor lies in a weight file, little endian.
struct TensorInfo {
  std::string name;
  std::string dtype;  ///< in safetensors' words, whatever the file: F32, BF16, I64, …
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;   ///< its bytes in the file: the first element's first to the last one's last
  std::vector<int64_t> strides;  ///< in elements; empty: C order

  int64_t elements() const {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return count;
  }
};

/// "[2, 3]": for messages.
std::string shape_text(const std::vector<int64_t>& shape);

/// Bytes that one element of this dtype takes; 0 for a dtype that is not known.
uint64_t dtype_size(std::string_view dtype);

/// Bytes of a tensor, each product checked before it is made: a zero must not hide an overflow. Throws Error (weights).
uint64_t tensor_bytes(const std::vector<int64_t>& shape, uint64_t element_size, const std::string& where);

/// What no sane file exceeds: a small file must not make a reader allocate much.
constexpr size_t kMaxRank = 8, kMaxTensorName = 4096, kMaxTensors = 1'000'000;

}  // namespace vlmamba::io
