#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "kernels/cuda/column_sum.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/accumulate.h>

#include "kernels/cuda/summed_rows.h"
#include "kernels/cuda/tensors.h"

namespace vlmamba::cuda {

at::Tensor sum_of_rows(const at::Tensor& parts, at::IntArrayRef shape, cudaStream_t stream) {
  const int64_t columns = c10::multiply_integers(shape);
  at::Tensor rows = parts;
  int64_t count = columns == 0 ? 1 : parts.numel() / columns;
  do {
    const int64_t segments = count > 0 ? (count + kSummedRows - 1) / kSummedRows : 1;
    const at::Tensor sums = at::empty({segments, columns}, parts.options());
    AT_DISPATCH_FLOATING_TYPES(parts.scalar_type(), "sum_of_rows", [&] {
      check(column_sum(device_data<scalar_t>(rows), mutable_device_data<scalar_t>(sums), count, columns, stream));
    });
    rows = sums;
    count = segments;
  } while (count > 1);
  return rows.view(shape);
}

}  // namespace vlmamba::cuda
