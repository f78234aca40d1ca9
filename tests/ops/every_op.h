#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/ops/compare.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/rms_norm.h"
#include "vlmamba/ops/selective_scan.h"
#include "vlmamba/ops/selective_scan_2d.h"
#include "vlmamba/ops/selective_state_update.h"

// One good call of every op, for the tests of what all ops promise.

namespace vlmamba::test {

using Tensors = std::vector<at::Tensor>;

struct OpCall {
  std::string op;
  std::vector<std::string> names;  // of the tensors, in the order of the arguments
  Tensors tensors;
  std::function<Tensors(const Tensors&)> call;
};

template <typename... Each>
Tensors listed(const std::tuple<Each...>& tensors) {
  return std::apply([](const auto&... each) { return Tensors{each...}; }, tensors);
}
template <typename Signature>
auto op(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(("vlmamba::" + name).c_str(), "").typed<Signature>();
}

/// fp32, a map of 2 x 3, B 2, D 4, N 3, G 2, W 4.
inline std::vector<OpCall> calls_with_gradients() {
  using namespace ops;
  const auto r = [](at::IntArrayRef sizes) { return at::randn(sizes); };
  const at::Tensor seq = at::tensor({0, 0, 1, 1, 1, -1, -1, 2, 2, 2, 2, 2}, at::kInt).view({2, 6});
  const at::Tensor A = -at::rand({4, 3}), A4 = -at::rand({4, 4, 3});
  return {
      {"selective_scan",
       {"u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state", "seq_idx"},
       {r({2, 6, 4}), r({2, 6, 4}), A, r({2, 6, 2, 3}), r({2, 6, 2, 3}), r({4}), r({2, 6, 4}), r({4}), r({2, 4, 3}),
        seq},
       [](const Tensors& x) {
         return listed(selective_scan(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], true, x[8], x[9]));
       }},
      {"selective_scan_2d",
       {"u", "delta", "A", "B", "C", "D", "delta_bias"},
       {r({2, 6, 4}), r({2, 6, 4, 4}), A4, r({2, 6, 4, 2, 3}), r({2, 6, 4, 2, 3}), r({4, 4}), r({4, 4})},
       [](const Tensors& x) -> Tensors {
         return {selective_scan_2d(x[0], x[1], x[2], x[3], x[4], x[5], x[6], true, "cross", 2, 3)};
       }},
      {"cross_scan",
       {"x"},
       {r({2, 6, 4})},
       [](const Tensors& x) -> Tensors { return {cross_scan(x[0], "cross", 2, 3)}; }},
      {"cross_merge",
       {"x"},
       {r({2, 4, 6, 4})},
       [](const Tensors& x) -> Tensors { return {cross_merge(x[0], "cross", 2, 3)}; }},
      {"causal_conv1d",
       {"x", "weight", "bias", "initial_state", "seq_idx"},
       {r({2, 6, 4}), r({4, 4}), r({4}), r({2, 3, 4}), seq},
       [](const Tensors& x) { return listed(causal_conv1d(x[0], x[1], x[2], x[3], x[4], "silu")); }},
      {"causal_conv1d_2d",
       {"x", "weight", "bias"},
       {r({2, 6, 4}), r({4, 4, 4}), r({4, 4})},
       [](const Tensors& x) -> Tensors { return {causal_conv1d_2d(x[0], x[1], x[2], "cross", 2, 3, "silu")}; }},
      {"rms_norm",
       {"x", "weight"},
       {r({2, 6, 4}), r({4})},
       [](const Tensors& x) -> Tensors { return {rms_norm(x[0], x[1])}; }},
      {"add_rms_norm",
       {"x", "residual", "weight"},
       {r({2, 6, 4}), r({2, 6, 4}), r({4})},
       [](const Tensors& x) { return listed(add_rms_norm(x[0], x[1], x[2])); }},
  };
}

/// The ops that write into a state, which is cloned before each call.
inline std::vector<OpCall> calls_of_updates() {
  using namespace ops;
  const auto r = [](at::IntArrayRef sizes) { return at::randn(sizes); };
  return {
      {"selective_state_update",
       {"state", "u", "delta", "A", "B", "C", "D", "z", "delta_bias"},
       {r({2, 4, 3}), r({2, 4}), r({2, 4}), -at::rand({4, 3}), r({2, 2, 3}), r({2, 2, 3}), r({4}), r({2, 4}), r({4})},
       [](const Tensors& x) -> Tensors {
         at::Tensor state = x[0].clone();
         return {selective_state_update(state, x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], true), state};
       }},
      {"causal_conv1d_update",
       {"x", "state", "weight", "bias"},
       {r({2, 4}), r({2, 3, 4}), r({4, 4}), r({4})},
       [](const Tensors& x) -> Tensors {
         at::Tensor state = x[1].clone();
         return {causal_conv1d_update(x[0], state, x[2], x[3], "silu"), state};
       }}};
}

template <size_t kCount>
std::array<bool, kCount> mask(bool wanted) {
  std::array<bool, kCount> mask;
  mask.fill(wanted);
  return mask;
}

/// The backward ops, which autograd calls: every gradient wanted, or none.
inline std::vector<OpCall> calls_of_backward_ops(bool wanted = true) {
  using at::Tensor;
  using Optional = std::optional<Tensor>;
  using Text = c10::string_view;
  using Size = c10::SymInt;
  const auto r = [](at::IntArrayRef sizes) { return at::randn(sizes); };
  const Tensor seq = at::tensor({0, 0, 1, 1, 1, -1, -1, 2, 2, 2, 2, 2}, at::kInt).view({2, 6});
  const Tensor A = -at::rand({4, 3}), A4 = -at::rand({4, 4, 3});
  return {
      {"selective_scan_backward",
       {"dy", "dfinal_state", "u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state", "seq_idx"},
       {r({2, 6, 4}), r({2, 4, 3}), r({2, 6, 4}), r({2, 6, 4}), A, r({2, 6, 2, 3}), r({2, 6, 2, 3}), r({4}),
        r({2, 6, 4}), r({4}), r({2, 4, 3}), seq},
       [=](const Tensors& x) {
         using S = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
             const Tensor&, const Optional&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
             const Optional&, const Optional&, const Optional&, bool, const Optional&, const Optional&,
             std::array<bool, 9>);
         return listed(op<S>("selective_scan_backward")
                           .call(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9], true, x[10], x[11],
                                 mask<9>(wanted)));
       }},
      {"selective_scan_2d_backward",
       {"dy", "u", "delta", "A", "B", "C", "D", "delta_bias"},
       {r({2, 6, 4}), r({2, 6, 4}), r({2, 6, 4, 4}), A4, r({2, 6, 4, 2, 3}), r({2, 6, 4, 2, 3}), r({4, 4}), r({4, 4})},
       [=](const Tensors& x) {
         using S = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
             const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Optional&,
             const Optional&, bool, Text, Size, Size, bool, std::array<bool, 7>);
         return listed(
             op<S>("selective_scan_2d_backward")
                 .call(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], true, "cross", 2, 3, true, mask<7>(wanted)));
       }},
      {"causal_conv1d_backward",
       {"dy", "dfinal_state", "x", "weight", "bias", "initial_state", "seq_idx"},
       {r({2, 6, 4}), r({2, 3, 4}), r({2, 6, 4}), r({4, 4}), r({4}), r({2, 3, 4}), seq},
       [=](const Tensors& x) {
         using S = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Optional&, const Tensor&,
                                                              const Tensor&, const Optional&, const Optional&,
                                                              const Optional&, Text, std::array<bool, 4>);
         return listed(
             op<S>("causal_conv1d_backward").call(x[0], x[1], x[2], x[3], x[4], x[5], x[6], "silu", mask<4>(wanted)));
       }},
      {"causal_conv1d_2d_backward",
       {"dy", "x", "weight", "bias"},
       {r({2, 6, 4, 4}), r({2, 6, 4}), r({4, 4, 4}), r({4, 4})},
       [=](const Tensors& x) {
         using S = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Optional&,
                                                      Text, Size, Size, Text, std::array<bool, 3>);
         return listed(
             op<S>("causal_conv1d_2d_backward").call(x[0], x[1], x[2], x[3], "cross", 2, 3, "silu", mask<3>(wanted)));
       }},
      {"rms_norm_backward",
       {"dy", "x", "weight"},
       {r({2, 6, 4}), r({2, 6, 4}), r({4})},
       [=](const Tensors& x) {
         using S = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double, std::array<bool, 2>);
         return listed(op<S>("rms_norm_backward").call(x[0], x[1], x[2], 1e-5, mask<2>(wanted)));
       }},
      {"add_rms_norm_backward",
       {"dy", "dresidual_out", "residual_out", "weight"},
       {r({2, 6, 4}), r({2, 6, 4}), r({2, 6, 4}), r({4})},
       [=](const Tensors& x) {
         using S = std::tuple<Tensor, Tensor>(const Optional&, const Optional&, const Tensor&, const Tensor&, double,
                                              std::array<bool, 2>);
         return listed(op<S>("add_rms_norm_backward").call(x[0], x[1], x[2], x[3], 1e-5, mask<2>(wanted)));
       }},
  };
}

/// But for the backward ops, which nobody calls by name.
inline std::vector<OpCall> calls_of_every_op() {
  auto all = calls_with_gradients();
  for (auto& update : calls_of_updates()) all.push_back(update);
  return all;
}

}  // namespace vlmamba::test
