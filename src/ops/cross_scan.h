#pragma once

#include <string_view>

#include "src/ops/check.h"

namespace vlmamba::ops {

/// Throw unless the op takes these arguments; called by every backend and Meta kernel.
void check_cross_scan(const at::Tensor& x, std::string_view scan, const c10::SymInt& height, const c10::SymInt& width);
void check_cross_merge(const at::Tensor& x, std::string_view scan, const c10::SymInt& height, const c10::SymInt& width);

}  // namespace vlmamba::ops
