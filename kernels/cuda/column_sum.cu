#include "kernels/cuda/column_sum.h"

namespace vlmamba::cuda {
namespace {

constexpr int kColumns = 32, kLanes = 8;  // of a block; each lane adds every kLanes-th row

template <class T>
__global__ __launch_bounds__(kColumns* kLanes) void sum_columns(const T* rows, T* sums, int64_t row_count,
                                                                int64_t columns, int64_t column_blocks) {
  T* partial = dynamic_shared<T>();  // [kLanes][kColumns]
  const int x = static_cast<int>(threadIdx.x), lane = x / kColumns;
  const int64_t segment = blockIdx.x / column_blocks, column = blockIdx.x % column_blocks * kColumns + x % kColumns;
  const int64_t first = segment * kSummedRows, last = min(first + kSummedRows, row_count);
  T sum = 0;
  if (column < columns)
    for (int64_t row = first + lane; row < last; row += kLanes) sum += rows[row * columns + column];
  partial[x] = sum;
  __syncthreads();
  if (lane > 0 || column >= columns) return;
  for (int other = 1; other < kLanes; ++other) sum += partial[other * kColumns + x];
  sums[segment * columns + column] = sum;
}

}  // namespace

template <class T>
cudaError_t column_sum(const T* rows, T* sums, int64_t row_count, int64_t columns, cudaStream_t stream) {
  if (columns == 0) return cudaSuccess;
  const int64_t column_blocks = (columns + kColumns - 1) / kColumns;
  const int64_t segments = row_count > 0 ? (row_count + kSummedRows - 1) / kSummedRows : 1;
  return launch(sum_columns<T>, static_cast<unsigned>(segments * column_blocks), kColumns * kLanes,
                kColumns * kLanes * sizeof(T), stream, rows, sums, row_count, columns, column_blocks);
}

template cudaError_t column_sum(const float*, float*, int64_t, int64_t, cudaStream_t);
template cudaError_t column_sum(const double*, double*, int64_t, int64_t, cudaStream_t);

}  // namespace vlmamba::cuda
