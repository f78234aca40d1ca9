#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

// Where the CUDA kernels run, so that one set of tests serves both: emulated_device.cpp or gpu_device.cpp is linked.

namespace vlmamba::test {

/// The dispatch key of the kernels: of CUDA, or of the emulation, whose tensors are ordinary ones of the CPU.
c10::DispatchKey kernel_key();
bool has_device();
/// On the device; the same tensor where it is there already.
at::Tensor to_device(const at::Tensor& tensor);

/// Seeds for set_thread_order: several for the emulation, one for a GPU, which has an order of its own.
std::vector<uint64_t> thread_orders();
void set_thread_order(uint64_t seed);
/// What launchers are told, so that small shapes are split too. A GPU keeps its own number.
void set_multiprocessors(int count);

inline std::optional<at::Tensor> to_device(const std::optional<at::Tensor>& tensor) {
  return tensor ? std::optional(to_device(*tensor)) : std::nullopt;
}
template <class T>
requires std::is_arithmetic_v<T> T to_device(T value) { return value; }
/// A tensor that the op writes: it is on the device already.
inline std::reference_wrapper<at::Tensor> to_device(std::reference_wrapper<at::Tensor> tensor) { return tensor; }
inline c10::string_view to_device(const char* text) { return text; }
template <size_t kCount>
std::array<bool, kCount> to_device(const std::array<bool, kCount>& wanted) {
  return wanted;
}
inline c10::SymInt to_device(const c10::SymInt& size) { return size; }

inline at::Tensor to_host(const at::Tensor& tensor) { return tensor.cpu(); }
template <class... T>
std::tuple<T...> to_host(const std::tuple<T...>& tensors) {
  return std::apply([](const auto&... each) { return std::tuple<T...>(to_host(each)...); }, tensors);
}

/// Calls the device's kernel of an op, past autograd. A tensor that the op writes is given by std::ref.
template <class Signature, class... Arguments>
auto call_kernel(const char* op, const Arguments&... arguments) {
  const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow(op, "").typed<Signature>();
  const c10::InferenceMode no_autograd;
  return std::apply(
      [&](auto&&... on_device) { return handle.redispatch(c10::DispatchKeySet(kernel_key()), on_device...); },
      std::tuple(to_device(arguments)...));
}
/// The same, and brings what it returns to the CPU.
template <class Signature, class... Arguments>
auto run_kernel(const char* op, const Arguments&... arguments) {
  return to_host(call_kernel<Signature>(op, arguments...));
}

class KernelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_device()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(1);
  }
  void TearDown() override { set_thread_order(0), set_multiprocessors(4); }
};

/// The largest error that kernels may make in a number of about one, by type; sums over many may make more.
inline double tolerance(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return 1e-12;
    case at::kFloat:
      return 4e-6;
    case at::kHalf:
      return 1.0 / 1024;
    default:
      return 1.0 / 128;
  }
}

/// Calls `run`, which gives tensors, under every thread order: all must agree to the bit. Gives those of the first.
template <class Run>
std::vector<at::Tensor> same_in_every_order(const Run& run) {
  std::vector<at::Tensor> first;
  for (const uint64_t order : thread_orders())
    for (int repeat = 0; repeat < 2; ++repeat) {
      set_thread_order(order);
      const std::vector<at::Tensor> now = run();
      if (first.empty()) first = now;
      for (size_t i = 0; i < first.size(); ++i)
        EXPECT_TRUE(at::equal(first[i].nan_to_num(-7), now[i].nan_to_num(-7))) << "tensor " << i << ", order " << order;
    }
  set_thread_order(0);
  return first;
}

/// seq_idx [rows, length]: runs of 1 to 5 steps, some of them padding, padding in front and behind; the last row is
/// nothing but padding where there are three or more.
inline at::Tensor random_runs(int64_t rows, int64_t length) {
  at::Tensor ids = at::empty({rows, length}, at::kInt);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t id = row % 2 == 0 ? -1 : 0, left = 2, next = 1;
    for (int64_t t = 0; t < length; ++t) {
      ids[row][t] = rows >= 3 && row + 1 == rows ? -1 : id;
      if (--left > 0) continue;
      left = at::randint(1, 6, {}).item<int64_t>();
      id = id >= 0 && at::randint(0, 3, {}).item<int64_t>() == 0 ? -1 : next++;
    }
  }
  return ids;
}

/// Every gradient left out alone, and all at once: what is not wanted comes back empty, the others keep their bits.
/// `backward` gives the gradients that a mask asks for.
template <size_t kCount, class Backward>
void expect_only_wanted(const Backward& backward) {
  std::array<bool, kCount> all;
  all.fill(true);
  const std::vector<at::Tensor> complete = backward(all);
  for (size_t left_out = 0; left_out <= kCount; ++left_out) {
    std::array<bool, kCount> wanted = all;
    left_out < kCount ? void(wanted[left_out] = false) : wanted.fill(false);
    const std::vector<at::Tensor> some = backward(wanted);
    for (size_t i = 0; i < kCount; ++i)
      EXPECT_TRUE(wanted[i] ? at::equal(some[i], complete[i]) : some[i].numel() == 0) << i << " without " << left_out;
  }
}

/// What autograd gives the leaves; zeros where an output does not depend on them.
inline std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& outputs,
                                            const std::vector<at::Tensor>& leaves,
                                            const std::vector<at::Tensor>& cotangents) {
  std::vector<at::Tensor> gradients(leaves.size()), roots, weights;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].requires_grad()) roots.push_back(outputs[i]), weights.push_back(cotangents[i].to(at::kDouble));
  if (!roots.empty()) gradients = torch::autograd::grad(roots, leaves, weights, false, false, /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i)
    if (!gradients[i].defined()) gradients[i] = at::zeros_like(leaves[i]);
  return gradients;
}

/// A leaf of the reference: fp64.
inline at::Tensor leaf(const at::Tensor& tensor) { return tensor.to(at::kDouble).requires_grad_(); }
inline std::optional<at::Tensor> leaf(const std::optional<at::Tensor>& tensor) {
  return tensor ? std::optional(leaf(*tensor)) : std::nullopt;
}

/// The largest magnitude, but at least 1: the scale of sums.
inline double scale_of(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? 1 : std::max(1.0, tensor.detach().abs().max().item<double>());
}

/// Holds `actual` against `expected` (fp64), relative to the larger of 1, each number and, for sums, `scale`.
inline void expect_close(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const char* what,
                         double scale = 1) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  if (actual.numel() == 0) return;
  const at::Tensor wanted = expected.detach().to(at::kDouble);
  const at::Tensor error = (actual.to(at::kDouble) - wanted).abs() / wanted.abs().clamp_min(scale);
  const double largest = error.max().item<double>();  // NaN if one is
  EXPECT_LE(largest, tolerance) << what << ", at element " << error.flatten().argmax().item<int64_t>();
}

}  // namespace vlmamba::test
