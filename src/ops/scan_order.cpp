#include "vlmamba/ops/scan_order.h"

#include <c10/util/Exception.h>

namespace vlmamba::ops {

const std::vector<int>& scan_directions(std::string_view scan, const char* op) {
  static const std::vector<int> forward{0}, bidirectional{0, 2}, cross{0, 1, 2, 3};
  if (scan == "forward") return forward;
  if (scan == "bidirectional") return bidirectional;
  TORCH_CHECK(scan == "cross", "[", op, "] scan: expected forward, bidirectional or cross, got ", std::string(scan));
  return cross;
}

std::vector<int32_t> scan_order(std::string_view scan, int64_t height, int64_t width) {
  const int64_t length = height * width;
  TORCH_CHECK(length <= INT32_MAX, "[scan] height, width: expected fewer than 2^31 pixels, got ", height, " x ", width);
  std::vector<int32_t> order;
  for (const int direction : scan_directions(scan))
    for (int64_t step = 0; step < length; ++step) {
      const int64_t t = direction < 2 ? step : length - 1 - step;
      const int64_t pixel = direction % 2 == 0 ? t : t % height * width + t / height;
      order.push_back(static_cast<int32_t>(pixel));
    }
  return order;
}

}  // namespace vlmamba::ops
