#pragma once

// More states than the kernels' blocks hold. Outputs are sums over states, and gate, D and rounding are linear in them:
// so slices of the states are scanned one after another in the type of the arithmetic, and their results summed there,
// or joined where they belong to states.

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels/cuda/selective_scan.h"

namespace vlmamba::cuda {

/// The states [first, first + count) of the arguments of a scan, in the type of the arithmetic.
struct StateSlice {
  int64_t first, count;
  at::ScalarType type;

  at::Tensor wide(const at::Tensor& x) const { return x.to(type); }
  at::Tensor of(const at::Tensor& x) const { return x.slice(-1, first, first + count).to(type); }
  std::optional<at::Tensor> wide(const std::optional<at::Tensor>& x) const {
    return x ? std::optional(wide(*x)) : std::nullopt;
  }
  std::optional<at::Tensor> of(const std::optional<at::Tensor>& x) const {
    return x ? std::optional(of(*x)) : std::nullopt;
  }
  /// What is added beside the states: by the first slice alone.
  std::optional<at::Tensor> once(const std::optional<at::Tensor>& x) const {
    return first == 0 ? wide(x) : std::nullopt;
  }
};

/// What becomes of the slices' results.
enum class OverStates { kSum, kJoin, kFirst };

/// `run` gives a tuple of kCount tensors for a slice.
template <size_t kCount, class Run>
std::array<at::Tensor, kCount> by_slices(int64_t states, at::ScalarType type,
                                         const std::array<OverStates, kCount>& over, const Run& run) {
  std::array<std::vector<at::Tensor>, kCount> parts;
  for (int64_t first = 0; first < states; first += kMaxStates) {
    const auto results = std::apply([](const auto&... each) { return std::array{each...}; },
                                    run(StateSlice{first, std::min(kMaxStates, states - first), type}));
    for (size_t i = 0; i < kCount; ++i)
      if (first == 0 || over[i] == OverStates::kJoin)
        parts[i].push_back(results[i]);
      else if (over[i] == OverStates::kSum)
        parts[i][0].add_(results[i]);
  }
  std::array<at::Tensor, kCount> all;
  for (size_t i = 0; i < kCount; ++i) all[i] = parts[i].size() == 1 ? parts[i][0] : at::cat(parts[i], -1);
  return all;
}

}  // namespace vlmamba::cuda
