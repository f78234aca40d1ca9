#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <vector>

// How the tests of the ops compare results.

namespace vlmamba::test {

inline at::Tensor fp64(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); }

/// The largest |a - b| / (1 + |b|); infinite where just one of them is not finite.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  if (a.numel() == 0) return 0;
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  return ((x - y).abs() / (1 + y.abs())).nan_to_num(INFINITY).max().item<double>();
}

/// What one rounding to the type may do to a number, of what `difference` measures.
inline double rounding(at::ScalarType type) {
  return type == at::kDouble ? 1e-12 : type == at::kFloat ? 3e-6 : type == at::kHalf ? 1.0 / 2048 : 1.0 / 256;
}

/// The same numbers with strides that are none of a contiguous tensor: every second one of a larger tensor, its
/// dimensions reversed in memory.
inline at::Tensor with_strides(const at::Tensor& tensor) {
  std::vector<int64_t> sizes(tensor.sizes().rbegin(), tensor.sizes().rend());
  if (sizes.empty()) return tensor;
  sizes.back() = 2 * sizes.back() + 1;
  at::Tensor large = at::full(sizes, tensor.is_floating_point() ? NAN : 7, tensor.options());
  at::Tensor view = large.slice(-1, 1, sizes.back(), 2).permute([&] {
    std::vector<int64_t> dims;
    for (int64_t d = tensor.dim(); d-- > 0;) dims.push_back(d);
    return dims;
  }());
  view.copy_(tensor);
  return view;
}

/// What `run` gives with one thread and with several are the same bits.
template <typename Run>
void expect_threads_change_nothing(const Run& run) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const std::vector<at::Tensor> one = run();
  for (const int threads : {2, 3}) {
    at::set_num_threads(threads);
    const std::vector<at::Tensor> many = run();
    for (size_t i = 0; i < one.size(); ++i)
      EXPECT_TRUE(at::equal(one[i], many[i])) << "tensor " << i << " with " << threads << " threads";
  }
  at::set_num_threads(before);
}

/// The message of what `call` throws; empty if nothing.
template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace vlmamba::test
