#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu/work.h"
#include "tests/ops/compare.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/reference.h"
#include "vlmamba/ops/selective_scan.h"
#include "vlmamba/ops/selective_scan_2d.h"

// Random scans of any shape, and what they and the reference in fp64 give: every output and every gradient.

namespace vlmamba::test {

using Optional = std::optional<at::Tensor>;

/// Tests that run once for each of the CPU's instruction sets.
class OnEveryInstructionSet : public testing::TestWithParam<cpu::InstructionSet> {
 protected:
  void SetUp() override {
    if (!cpu::has_instruction_set(GetParam())) GTEST_SKIP() << "this processor lacks the instruction set";
    cpu::use_instruction_set(GetParam());
  }
  void TearDown() override { cpu::use_instruction_set(best_); }

 private:
  const cpu::InstructionSet best_ = cpu::instruction_set();
};
inline std::string set_name(const testing::TestParamInfo<cpu::InstructionSet>& info) {
  return info.param == cpu::InstructionSet::kAvx512 ? "avx512"
         : info.param == cpu::InstructionSet::kAvx2 ? "avx2"
                                                    : "baseline";
}
inline const auto kEveryInstructionSet =
    testing::Values(cpu::InstructionSet::kBaseline, cpu::InstructionSet::kAvx2, cpu::InstructionSet::kAvx512);

struct ScanShape {
  int64_t rows, length, channels, states, groups = 1;
};

/// Legend: B rows, L positions, K directions, D channels, G groups, N states; u, delta, A, B, C, D, z, delta_bias,
/// initial_state, as the op takes them.
struct ScanCase {
  at::Tensor u, delta, A, B, C;
  Optional D, z, bias, initial;
  Optional seq_idx;
  bool softplus = true;

  /// The small tensors are fp32 where the large ones are narrow, and all given.
  ScanCase(const ScanShape& s, at::ScalarType type = at::kDouble) {
    const auto small = type == at::kDouble ? at::kDouble : at::kFloat;
    const auto large_of = [&](at::IntArrayRef sizes) { return fp64(sizes).to(type); };
    u = large_of({s.rows, s.length, s.channels});
    delta = (fp64({s.rows, s.length, s.channels}) - 1).to(type);
    A = (-at::rand({s.channels, s.states}, at::kDouble) * 2 - 0.05).to(small);
    B = large_of({s.rows, s.length, s.groups, s.states});
    C = large_of({s.rows, s.length, s.groups, s.states});
    D = fp64({s.channels}).to(small);
    z = large_of({s.rows, s.length, s.channels});
    bias = fp64({s.channels}).to(small);
    initial = fp64({s.rows, s.channels, s.states}).to(small);
  }

  void keep_required() {
    for (Optional* x : {&D, &z, &bias, &initial}) x->reset();
  }
  /// The inputs that are given, in the op's order.
  std::vector<at::Tensor> inputs() const {
    std::vector<at::Tensor> all{u, delta, A, B, C};
    for (const Optional* x : {&D, &z, &bias, &initial})
      if (*x) all.push_back(**x);
    return all;
  }
  /// Changes every given input.
  template <typename Change>
  ScanCase with(const Change& change) const {
    ScanCase other = *this;
    for (at::Tensor* x : {&other.u, &other.delta, &other.A, &other.B, &other.C}) *x = change(*x);
    for (Optional* x : {&other.D, &other.z, &other.bias, &other.initial})
      if (*x) *x = change(**x);
    return other;
  }
};

using ScanFunction = decltype(&ops::selective_scan);

/// y, final_state, then the gradients of `inputs()`, for the gradients of the two outputs.
inline std::vector<at::Tensor> run(const ScanCase& scan, const at::Tensor& dy, const at::Tensor& dfinal,
                                   ScanFunction function = ops::selective_scan) {
  const ScanCase leaves = scan.with([](const at::Tensor& x) { return x.detach().requires_grad_(); });
  const auto [y, last] = function(leaves.u, leaves.delta, leaves.A, leaves.B, leaves.C, leaves.D, leaves.z, leaves.bias,
                                  leaves.softplus, leaves.initial, leaves.seq_idx);
  std::vector<at::Tensor> results{y.detach(), last.detach()}, outputs, their_gradients;
  if (y.requires_grad()) outputs.push_back(y), their_gradients.push_back(dy);
  if (last.requires_grad()) outputs.push_back(last), their_gradients.push_back(dfinal);
  const auto inputs = leaves.inputs();
  std::vector<at::Tensor> gradients(inputs.size());
  if (!outputs.empty())
    gradients = torch::autograd::grad(outputs, inputs, their_gradients, /*retain_graph=*/false, /*create_graph=*/false,
                                      /*allow_unused=*/true);
  for (size_t i = 0; i < inputs.size(); ++i)
    results.push_back(gradients[i].defined() ? gradients[i] : at::zeros_like(inputs[i]));
  return results;
}

/// The same by the reference, in fp64.
inline std::vector<at::Tensor> run_reference(const ScanCase& scan, const at::Tensor& dy, const at::Tensor& dfinal) {
  const auto wide = [](const at::Tensor& x) { return x.to(at::kDouble); };
  return run(scan.with(wide), wide(dy), wide(dfinal), ops::reference::selective_scan);
}

}  // namespace vlmamba::test
