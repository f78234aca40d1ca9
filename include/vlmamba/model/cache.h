#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace vlmamba {

/// What a language model remembers of its sequences: per layer a list of batch-first tensors (Mamba: the last inputs of
/// the convolution [B,W-1,D] and the state [B,D,N]). Constant in the length of the sequences.
struct Cache {
  std::vector<std::vector<at::Tensor>> layers;

  /// The sequences of these rows (int64 [R]), copied.
  Cache select(const at::Tensor& rows) const;
  /// Every sequence `times` times in a row: one picture's prefix serves many questions.
  Cache repeat(int64_t times) const;
  Cache clone() const;
};

}  // namespace vlmamba
