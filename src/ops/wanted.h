#pragma once

#include <array>
#include <cstddef>

namespace vlmamba::ops {

/// Which of a backward's gradients are asked for, in the order of the forward's arguments. The others come back empty;
/// those of weights then cost nothing.
template <size_t kCount>
using Wanted = std::array<bool, kCount>;

}  // namespace vlmamba::ops
