#pragma once

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// Rows that column_sum adds into one.
constexpr int64_t kSummedRows = 256;

/// sums[s][c] = the sum of rows[r][c] over the kSummedRows rows of segment s, in a fixed order; `sums` has
/// ceil(row_count / kSummedRows) rows. The caller repeats it until one row is left. T: float or double.
template <class T>
cudaError_t column_sum(const T* rows, T* sums, int64_t row_count, int64_t columns, cudaStream_t stream);

}  // namespace vlmamba::cuda
