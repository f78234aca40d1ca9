#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "vlmamba/core/tokens.h"

namespace vlmamba {

/// What one forward pass takes. B rows of L positions, I pictures in the order of their first position.
struct Batch {
  at::Tensor pixel_values;              ///< [I, 3, H, W] float; undefined when I = 0
  at::Tensor input_ids;                 ///< [B, L] int64; each picture is P times kImageToken
  at::Tensor labels;                    ///< [B, L] int64, aligned with input_ids: position t-1 predicts labels[t];
                                        ///< kIgnoreIndex = no loss, also at the first position of every sequence
  at::Tensor seq_idx;                   ///< [B, L] int32: which sequence of the row; -1 = padding
  std::vector<std::string> sample_ids;  ///< for messages; one a sequence
};

}  // namespace vlmamba
