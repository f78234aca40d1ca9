#include "src/ops/check.h"

#include <ATen/MemoryOverlap.h>
#include <c10/core/GradMode.h>

namespace vlmamba::ops {
namespace {

void check_device(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& like) {
  TORCH_CHECK(tensor.device() == like.device(), "[", op, "] ", name, ": expected device ", like.device(), ", got ",
              tensor.device());
}

}  // namespace

void check_shape(const char* op, const char* name, const at::Tensor& tensor, c10::SymIntArrayRef expected) {
  TORCH_CHECK(tensor.defined(), "[", op, "] ", name, ": expected a tensor, got none");
  const auto sizes = tensor.sym_sizes();
  bool same = sizes.size() == expected.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) same = expected[i] == kAnySize || sizes[i] == expected[i];
  TORCH_CHECK(same, "[", op, "] ", name, ": expected shape ", expected, " (-1: any), got ", sizes);
}

void check_floating(const char* op, const char* name, const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16, "[", op, "] ",
              name, ": expected Float, BFloat16, Half or Double, got ", type);
}

void check_like(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& like, bool or_float) {
  or_float = or_float && like.scalar_type() != at::kDouble && like.scalar_type() != at::kFloat;
  const bool same = tensor.scalar_type() == like.scalar_type() || (or_float && tensor.scalar_type() == at::kFloat);
  TORCH_CHECK(same, "[", op, "] ", name, ": expected ", like.scalar_type(), or_float ? " or Float" : "", ", got ",
              tensor.scalar_type());
  check_device(op, name, tensor, like);
}

void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType type,
                const at::Tensor& like) {
  TORCH_CHECK(tensor.scalar_type() == type, "[", op, "] ", name, ": expected ", type, ", got ", tensor.scalar_type());
  check_device(op, name, tensor, like);
}

void check_writable(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(at::has_internal_overlap(tensor) != at::MemOverlap::Yes, "[", op, "] ", name,
              ": expected memory of its own for each element, as it is written into, got an expanded tensor");
}

void check_map(const char* op, const c10::SymInt& length, const c10::SymInt& height, const c10::SymInt& width) {
  TORCH_CHECK(height >= 0 && width >= 0 && height * width == length, "[", op, "] height, width: expected a product of ",
              length, ", got ", height, " x ", width);
}

void check_groups(const char* op, const c10::SymInt& channels, const c10::SymInt& groups) {
  TORCH_CHECK(groups > 0 && channels % groups == 0, "[", op, "] B: expected a number of groups that divides ", channels,
              " channels, got ", groups);
}

void check_no_gradients(const char* op, const char* instead,
                        std::initializer_list<std::pair<const char*, const at::Tensor*>> tensors) {
  if (!c10::GradMode::is_enabled()) return;
  for (const auto& [name, tensor] : tensors)
    TORCH_CHECK(!tensor->defined() || !tensor->requires_grad(), "[", op, "] ", name, ": expected no gradient (",
                instead, " has them), got a tensor that requires one");
}

}  // namespace vlmamba::ops
