#pragma once

#include <cstdint>
#include <vector>

#include "vlmamba/core/batch.h"
#include "vlmamba/data/example.h"

namespace vlmamba {

/// Examples that share a row, one behind the other.
using Row = std::vector<const Example*>;

/// Puts rows side by side: padded on the right to the longest, with pad_id, seq_idx -1 and no labels. seq_idx numbers
/// the examples of a row from 0; none is predicted from the one before it. `image_size` is S of pixel_values [I,3,S,S];
/// pin_memory needs CUDA.
Batch collate_rows(const std::vector<Row>& rows, int64_t pad_id, int64_t image_size, bool pin_memory = false);

/// The same with one example a row.
Batch collate(const std::vector<const Example*>& examples, int64_t pad_id, int64_t image_size, bool pin_memory = false);

/// Deals examples to as few rows of at most `max_length` positions as first-fit-decreasing finds: the longest first,
/// each into the first row that has room for it. No more rows than examples; each is at most max_length long.
std::vector<Row> pack(const std::vector<const Example*>& examples, int64_t max_length);

/// The number of targets of a batch.
int64_t count_targets(const Batch& batch);

}  // namespace vlmamba
