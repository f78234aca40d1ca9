#pragma once

#include <cstdint>

// The types in which tensors lie in memory, without LibTorch, and the type in which each is computed with.

namespace vlmamba::cpu {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <typename S>
struct MathOf {
  using type = float;
};
template <>
struct MathOf<double> {
  using type = double;
};
template <typename S>
using Math = typename MathOf<S>::type;

}  // namespace vlmamba::cpu
