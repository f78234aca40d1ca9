#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/storage.h"

// What the CPU kernels share on LibTorch's side.

namespace vlmamba::cpu {

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };
/// Whether this processor has it.
bool has_instruction_set(InstructionSet set);
/// The one that the kernels use: the best that this processor has, unless another was chosen.
InstructionSet instruction_set();
/// Makes all later calls use one that this processor has; for tests and benchmarks.
void use_instruction_set(InstructionSet set);

/// The one of a kernel's three forms that this processor runs.
template <typename Kernel>
Kernel fastest(Kernel baseline, Kernel avx2, Kernel avx512) {
  switch (instruction_set()) {
    case InstructionSet::kAvx512:
      return avx512;
    case InstructionSet::kAvx2:
      return avx2;
    case InstructionSet::kBaseline:
      break;
  }
  return baseline;
}

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

/// Pieces that equal items are cut into, by shape alone: few enough that each is worth a thread.
int64_t parts_of(int64_t items, int64_t numbers_per_item);

/// Calls work(part, first_item, last_item) for every part, on many threads.
template <typename Work>
void for_each_part(int64_t items, int64_t parts, const Work& work) {
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) work(part, items * part / parts, items * (part + 1) / parts);
  });
}

/// The sum over the first dimension, in its order, whatever the number of threads.
at::Tensor sum_of_parts(const at::Tensor& parts);

/// Calls work(S{}) with the type S of storage.h in which a floating tensor of this type lies in memory.
template <typename Work>
void with_storage(at::ScalarType type, const Work& work) {
  switch (type) {
    case at::kDouble:
      return work(double{});
    case at::kBFloat16:
      return work(BFloat16{});
    case at::kHalf:
      return work(Half{});
    default:
      return work(float{});
  }
}

inline at::Tensor contiguous(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->contiguous() : at::Tensor();
}

/// A contiguous tensor's memory as that type.
template <typename S>
const S* stored(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const S*>(tensor.const_data_ptr()) : nullptr;
}
template <typename S>
S* mutable_stored(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<S*>(tensor.mutable_data_ptr()) : nullptr;
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
