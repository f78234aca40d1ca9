#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace vlmamba::ops {

/// The directions of a scan, in VMamba's numbering: 0 row-major, 1 column-major, 2 = 0 reversed, 3 = 1 reversed.
/// `forward` = {0}, `bidirectional` = {0, 2} (the paper's BSM), `cross` = {0, 1, 2, 3} (CSM). Throws c10::Error that
/// starts with `[op] scan:` otherwise.
const std::vector<int>& scan_directions(std::string_view scan, const char* op = "scan");

/// For each direction and step the pixel (row * width + column) that is read: K * height * width numbers.
std::vector<int32_t> scan_order(std::string_view scan, int64_t height, int64_t width);

}  // namespace vlmamba::ops
