// What the gradients of all ops have in common.

#include <c10/core/GradMode.h>

#include <cmath>

#include "tests/ops/every_op.h"
#include "vlmamba/ops/reference.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::calls_with_gradients;
using test::OpCall;
using test::Tensors;

Tensors leaves_of(const OpCall& call) {
  Tensors leaves;
  for (const Tensor& tensor : call.tensors)
    leaves.push_back(tensor.is_floating_point() ? tensor.detach().clone().requires_grad_() : tensor);
  return leaves;
}

Tensors that_require_gradients(const Tensors& tensors) {
  Tensors some;
  for (const Tensor& tensor : tensors)
    if (tensor.defined() && tensor.requires_grad()) some.push_back(tensor);
  return some;
}

Tensor sum_of_squares(const Tensors& tensors) {
  Tensor sum = at::zeros({});
  for (const Tensor& tensor : tensors) sum = sum + tensor.square().sum();
  return sum;
}

TEST(Gradients, ASecondDerivativeIsRefusedWithTheOpsNameHoweverItIsAskedFor) {
  for (const OpCall& call : calls_with_gradients()) {
    if (call.op.starts_with("cross")) continue;  // linear: differentiable for ever
    const Tensors leaves = leaves_of(call), inputs = that_require_gradients(leaves);
    const auto first = [&] {
      return torch::autograd::grad({sum_of_squares(call.call(leaves))}, inputs, {}, true, /*create_graph=*/true);
    };
    const std::string expected =
        "[" + call.op + "] gradient: expected a first derivative, got a request for the second, which it does not have";
    for (const Tensor& input : inputs)
      EXPECT_EQ(test::error_of([&] { torch::autograd::grad({sum_of_squares(first())}, {input}); }), expected);
    EXPECT_EQ(test::error_of([&] { torch::autograd::backward({sum_of_squares(first())}, {}); }), expected);
  }
}

TEST(Gradients, OneInputAloneHasTheGradientThatItHasAmongAll) {
  at::manual_seed(1);
  for (const OpCall& call : calls_with_gradients()) {
    const Tensors leaves = leaves_of(call), inputs = that_require_gradients(leaves);
    const auto all = torch::autograd::grad({sum_of_squares(call.call(leaves))}, inputs);
    size_t which = 0;
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!leaves[i].requires_grad()) continue;
      Tensors one;
      for (const Tensor& leaf : leaves) one.push_back(leaf.detach());
      one[i].requires_grad_();
      const auto own = torch::autograd::grad({sum_of_squares(call.call(one))}, {one[i]});
      EXPECT_TRUE(at::equal(own[0], all[which++])) << call.op << " " << call.names[i];
    }
  }
}

TEST(Gradients, EitherOutputMayBeUnused) {
  at::manual_seed(2);
  for (const OpCall& call : calls_with_gradients()) {
    const Tensors leaves = leaves_of(call), inputs = that_require_gradients(leaves);
    const size_t count = call.call(leaves).size();
    if (count == 1) continue;
    Tensors sum(inputs.size());
    for (size_t used = 0; used < count; ++used) {
      const auto part = torch::autograd::grad({sum_of_squares({call.call(leaves)[used]})}, inputs, {}, std::nullopt,
                                              false, /*allow_unused=*/true);
      for (size_t i = 0; i < part.size(); ++i)
        if (part[i].defined()) sum[i] = sum[i].defined() ? sum[i] + part[i] : part[i];
    }
    const auto all = torch::autograd::grad({sum_of_squares(call.call(leaves))}, inputs);
    for (size_t i = 0; i < all.size(); ++i) EXPECT_LT(test::difference(sum[i], all[i]), 1e-5) << call.op << " " << i;
  }
}

// A loss on a state, or on a residual, alone: what the other output makes of infinite inputs is none of its business.
TEST(Gradients, AnUnusedOutputSpoilsNothing) {
  at::manual_seed(5);
  for (const OpCall& call : calls_with_gradients()) {
    const Tensors clean = leaves_of(call);
    if (call.call(clean).size() == 1) continue;
    const auto of_second = [&](const Tensors& leaves) {
      return torch::autograd::grad({sum_of_squares({call.call(leaves)[1]})}, that_require_gradients(leaves));
    };
    const Tensors expected = of_second(clean);
    for (size_t i = 0; i < clean.size(); ++i) {
      const bool of_y_alone = call.names[i] == "C" || call.names[i] == "D" || call.names[i] == "z" ||
                              call.names[i] == "weight" || call.names[i] == "bias";
      if (!of_y_alone) continue;
      for (const double bad : {static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
        Tensors spoilt = leaves_of(call);
        spoilt[i] = at::full_like(spoilt[i], bad).requires_grad_();
        const Tensors got = of_second(spoilt);
        for (size_t j = 0; j < got.size(); ++j)
          EXPECT_TRUE(at::equal(got[j], expected[j])) << call.op << ", " << call.names[i] << " = " << bad << ", " << j;
      }
    }
  }
}

TEST(Gradients, AnyStridesOfInputsAndGradientsGiveTheSameBits) {
  at::manual_seed(3);
  for (const OpCall& call : calls_with_gradients()) {
    Tensors weights;
    for (const Tensor& output : call.call(call.tensors)) weights.push_back(at::randn_like(output));
    const auto run = [&](const auto& laid_out) {
      Tensors leaves;
      for (const Tensor& leaf : leaves_of(call)) {
        const bool floating = leaf.requires_grad();
        leaves.push_back(laid_out(leaf.detach()).requires_grad_(floating));
      }
      Tensors outputs = call.call(leaves), cotangents;
      for (const Tensor& weight : weights) cotangents.push_back(laid_out(weight));
      Tensors all = torch::autograd::grad(outputs, that_require_gradients(leaves), cotangents);
      for (const Tensor& output : outputs) all.push_back(output.detach());
      return all;
    };
    const Tensors plain = run([](const Tensor& tensor) { return tensor.clone(); });
    const Tensors strided = run([](const Tensor& tensor) { return test::with_strides(tensor); });
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], strided[i])) << call.op << " " << i;
  }
}

TEST(Gradients, ExpandedGradientsAreTakenAsTheyAre) {
  at::manual_seed(4);
  for (const OpCall& call : calls_with_gradients()) {
    const Tensors leaves = leaves_of(call), inputs = that_require_gradients(leaves);
    Tensors expanded, plain;
    for (const Tensor& output : call.call(leaves)) {
      expanded.push_back(at::ones({}).expand_as(output));
      plain.push_back(at::ones_like(output));
    }
    const auto a = torch::autograd::grad(call.call(leaves), inputs, expanded);
    const auto b = torch::autograd::grad(call.call(leaves), inputs, plain);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << call.op << " " << i;
  }
}

TEST(Gradients, ThoseThatNobodyWantsAreNotComputed) {
  for (const OpCall& call : test::calls_of_backward_ops(/*wanted=*/false))
    for (const Tensor& gradient : call.call(call.tensors)) EXPECT_EQ(gradient.numel(), 0) << call.op;
}

TEST(Outputs, NoneAliasesAnInput) {
  for (const OpCall& call : test::calls_of_every_op())
    for (const Tensor& output : call.call(call.tensors))
      for (const Tensor& input : call.tensors) EXPECT_FALSE(output.is_alias_of(input)) << call.op;
}

}  // namespace
}  // namespace vlmamba::ops
