#pragma once

#include <cstdint>

namespace vlmamba {

constexpr int64_t kIgnoreIndex = -100;  ///< a label without loss
constexpr int64_t kImageToken = -200;   ///< a picture among input ids; one position of it in a batch

}  // namespace vlmamba
