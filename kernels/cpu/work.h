#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/cpu/blocks.h"

// What the CPU kernels share on LibTorch's side.

namespace vlmamba::cpu {

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };
/// The best one that this processor and these kernels have.
InstructionSet instruction_set();

/// What happens at each position of seq_idx [B,L] int32, row by row.
std::vector<StepKind> step_kinds(const at::Tensor& seq_idx);

/// Pieces that the blocks of a row are cut into, by shape alone: enough for any desktop when the batch is small.
int64_t slices_of(int64_t rows, int64_t blocks);

/// Calls work(row, slice, first_block, last_block) for every slice of blocks of every row, on many threads. The work is
/// divided by shape alone, so that results do not depend on the number of threads.
template <typename Work>
void for_each_slice(int64_t rows, int64_t blocks, int64_t slices, const Work& work) {
  at::parallel_for(0, rows * slices, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t slice = task % slices;
      work(task / slices, slice, blocks * slice / slices, blocks * (slice + 1) / slices);
    }
  });
}

template <typename T>
const T* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}
template <typename T>
T* mutable_data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

}  // namespace vlmamba::cpu
