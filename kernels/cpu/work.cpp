#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "kernels/cpu/work.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "kernels/cpu/scratch.h"

namespace vlmamba::cpu {

namespace {

std::atomic<InstructionSet>& chosen_set() {
  static std::atomic<InstructionSet> chosen = has_instruction_set(InstructionSet::kAvx512) ? InstructionSet::kAvx512
                                              : has_instruction_set(InstructionSet::kAvx2) ? InstructionSet::kAvx2
                                                                                           : InstructionSet::kBaseline;
  return chosen;
}

}  // namespace

bool has_instruction_set(InstructionSet set) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  switch (set) {
    case InstructionSet::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bw");
    case InstructionSet::kAvx2:
      return avx2;
    case InstructionSet::kBaseline:
      break;
  }
  return true;
}

InstructionSet instruction_set() { return chosen_set().load(std::memory_order_relaxed); }

void use_instruction_set(InstructionSet set) {
  TORCH_CHECK(has_instruction_set(set), "[use_instruction_set] set: expected one that this processor has");
  chosen_set().store(set, std::memory_order_relaxed);
}

std::vector<StepKind> step_kinds(const at::Tensor& seq_idx) {
  const at::Tensor ids = seq_idx.contiguous();
  const int64_t rows = ids.size(0), length = ids.size(1);
  std::vector<StepKind> kinds(static_cast<size_t>(rows * length));
  const int32_t* id = ids.const_data_ptr<int32_t>();
  for (int64_t row = 0; row < rows; ++row) {
    bool started = false;
    for (int64_t t = 0; t < length; ++t) {
      const int64_t i = row * length + t;
      const bool starts = t == 0 || id[i] != id[i - 1];
      kinds[static_cast<size_t>(i)] = id[i] < 0           ? StepKind::kPadding
                                      : starts && started ? StepKind::kReset
                                                          : StepKind::kGoOn;
      started = started || id[i] >= 0;
    }
  }
  return kinds;
}

void* scratch(size_t bytes) {
  constexpr size_t kAlignment = 128;
  void* memory = std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  TORCH_CHECK_WITH(OutOfMemoryError, memory != nullptr, "[CPU kernels] memory: expected ", bytes,
                   " bytes for a work area, got none");
  return memory;
}

int64_t slices_of(int64_t rows, int64_t blocks) {
  constexpr int64_t kTasks = 16;
  return std::clamp<int64_t>(kTasks / std::max<int64_t>(rows, 1), 1, std::max<int64_t>(blocks, 1));
}

int64_t parts_of(int64_t items, int64_t numbers_per_item) {
  constexpr int64_t kNumbersAPart = 16384, kMostParts = 64;
  const int64_t parts = std::clamp<int64_t>(items * numbers_per_item / kNumbersAPart, 1, kMostParts);
  return std::min(parts, std::max<int64_t>(items, 1));
}

at::Tensor sum_of_parts(const at::Tensor& parts) {
  const at::Tensor own = parts.contiguous(), sum = at::zeros(parts.sizes().slice(1), parts.options());
  const int64_t count = parts.size(0), numbers = sum.numel();
  AT_DISPATCH_FLOATING_TYPES(parts.scalar_type(), "sum_of_parts", [&] {
    const scalar_t* from = own.const_data_ptr<scalar_t>();
    scalar_t* to = sum.mutable_data_ptr<scalar_t>();
    for_each_part(numbers, parts_of(numbers, count), [&](int64_t, int64_t first, int64_t last) {
      for (int64_t part = 0; part < count; ++part)
        for (int64_t i = first; i < last; ++i) to[i] += from[part * numbers + i];
    });
  });
  return sum;
}

}  // namespace vlmamba::cpu
