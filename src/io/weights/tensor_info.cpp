#include "vlmamba/io/weights/tensor_info.h"

#include <algorithm>
#include <array>

#include "vlmamba/core/error.h"

namespace vlmamba::io {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 51;
constexpr std::array<std::pair<std::string_view, uint64_t>, 15> kDtypes{{{"BOOL", 1},
                                                                         {"U8", 1},
                                                                         {"I8", 1},
                                                                         {"F8_E4M3", 1},
                                                                         {"F8_E5M2", 1},
                                                                         {"U16", 2},
                                                                         {"I16", 2},
                                                                         {"F16", 2},
                                                                         {"BF16", 2},
                                                                         {"U32", 4},
                                                                         {"I32", 4},
                                                                         {"F32", 4},
                                                                         {"F64", 8},
                                                                         {"I64", 8},
                                                                         {"U64", 8}}};

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

uint64_t dtype_size(std::string_view dtype) {
  for (const auto& [name, size] : kDtypes)
    if (name == dtype) return size;
  return 0;
}

uint64_t tensor_bytes(const std::vector<int64_t>& shape, uint64_t element_size, const std::string& where) {
  uint64_t product = element_size;
  for (const int64_t extent : shape) {
    const auto factor = static_cast<uint64_t>(std::max<int64_t>(extent, 1));
    if (product > kMaxBytes / factor)
      throw Error(ExitCode::kWeights, where, "shape: expected at most 2^51 bytes, got more");
    product *= factor;
  }
  return std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : product;
}

}  // namespace vlmamba::io
