#pragma once

#include <cstdint>
#include <vector>

#include "vlmamba/core/batch.h"
#include "vlmamba/data/example.h"

namespace vlmamba {

/// Puts examples side by side: rows are padded on the right to the longest, with pad_id, seq_idx -1 and no labels.
/// `image_size` is S of pixel_values [I,3,S,S].
Batch collate(const std::vector<const Example*>& examples, int64_t pad_id, int64_t image_size);

/// The number of targets of a batch.
int64_t count_targets(const Batch& batch);

}  // namespace vlmamba
