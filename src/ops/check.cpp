#include "src/ops/check.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <vector>

namespace vlmamba::ops {
namespace {

void check_device(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& like) {
  TORCH_CHECK(tensor.device() == like.device(), "[", op, "] ", name, ": expected device ", like.device(), ", got ",
              tensor.device());
}

// Whether each stride steps over all that the smaller ones reach, as they do in slices and transpositions of whole
// tensors.
bool has_own_memory(const at::Tensor& tensor) {
  if (tensor.sym_numel() == 0) return true;
  std::vector<std::pair<c10::SymInt, c10::SymInt>> dims;  // stride, size
  for (int64_t i = 0; i < tensor.dim(); ++i)
    if (tensor.sym_size(i) > 1) dims.emplace_back(tensor.sym_stride(i), tensor.sym_size(i));
  std::sort(dims.begin(), dims.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  c10::SymInt reached = 0;
  for (const auto& [stride, size] : dims) {
    if (stride <= reached) return false;
    reached += stride * (size - 1);
  }
  return true;
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
  TORCH_CHECK(has_own_memory(tensor), "[", op, "] ", name,
              ": expected memory of its own for each element, as it is written into, got strides ",
              tensor.sym_strides());
}

void check_map(const char* op, const c10::SymInt& length, const c10::SymInt& height, const c10::SymInt& width) {
  // By division: a product of large numbers wraps around.
  const bool fits = height >= 0 && width >= 0 &&
                    (height == 0 || width == 0 ? length == 0 : length % width == 0 && length / width == height);
  TORCH_CHECK(fits, "[", op, "] height, width: expected a product of ", length, ", got ", height, " x ", width);
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
