#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace vlmamba {

/// What a language model remembers of its sequences: per layer a list of batch-first tensors (Mamba: the last inputs of
/// the convolution [B,W-1,D] and the state [B,D,N], constant in the length of the sequences; GPT-NeoX: keys and
/// values).
struct Cache {
  std::vector<std::vector<at::Tensor>> layers;

  /// The sequences of these rows (int64 [R]), copied.
  Cache select(const at::Tensor& rows) const;
  Cache clone() const;
  /// The sequences of all `parts`, in a row, copied. Where a tensor grows with its sequence (keys and values), shorter
  /// ones are filled up with zeros in front, which their own masks leave out.
  static Cache join(const std::vector<Cache>& parts);
  int64_t bytes() const;
};

}  // namespace vlmamba
