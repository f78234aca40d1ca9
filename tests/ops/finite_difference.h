#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

namespace vlmamba::test {

using Tensors = std::vector<at::Tensor>;

/// Holds every gradient of `fn` against central differences, in fp64.
///
/// Each output is weighted with a fixed random cotangent and all are summed, so that one call checks every entry of the
/// Jacobian products of every input, through every output. `inputs` are fp64 of any strides; integers and options are
/// captured by `fn`, which must not write into its inputs. Costs two calls of `fn` per element.
inline void expect_gradients_match(const std::function<Tensors(const Tensors&)>& fn, const Tensors& inputs,
                                   double tolerance = 1e-7) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) {
    ASSERT_EQ(input.scalar_type(), at::kDouble) << "finite differences need fp64 inputs";
    leaves.push_back(input.detach().requires_grad_());
  }

  Tensors outputs, cotangents, differentiable_outputs, their_cotangents;
  outputs = fn(leaves);
  for (size_t o = 0; o < outputs.size(); ++o) {
    cotangents.push_back(at::randn_like(outputs[o]));
    if (!outputs[o].requires_grad()) continue;
    differentiable_outputs.push_back(outputs[o]);
    their_cotangents.push_back(cotangents[o]);
  }
  ASSERT_FALSE(differentiable_outputs.empty()) << "no output requires a gradient";
  const Tensors gradients =
      torch::autograd::grad(differentiable_outputs, leaves, their_cotangents,
                            /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);

  const c10::AutoGradMode no_grad(false);
  const auto weighted_sum = [&](const Tensors& at_inputs) {
    double sum = 0;
    const Tensors values = fn(at_inputs);
    for (size_t o = 0; o < values.size(); ++o) sum += (values[o] * cotangents[o]).sum().item<double>();
    return sum;
  };

  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].numel() == 0) continue;
    const at::Tensor original = inputs[i].detach().contiguous();
    at::Tensor numeric = at::empty({original.numel()}, original.options());
    for (int64_t element = 0; element < original.numel(); ++element) {
      const auto moved_by = [&](double step) {
        at::Tensor moved = original.clone();
        moved.view({-1})[element].add_(step);
        Tensors shifted = inputs;
        shifted[i] = moved;
        return weighted_sum(shifted);
      };
      numeric[element] = (moved_by(kStep) - moved_by(-kStep)) / (2 * kStep);
    }
    numeric = numeric.view(original.sizes());
    const at::Tensor analytic = gradients[i].defined() ? gradients[i] : at::zeros_like(numeric);
    ASSERT_EQ(analytic.sizes(), numeric.sizes()) << "gradient of input " << i;
    const at::Tensor excess = (analytic - numeric).abs() / (1 + numeric.abs());
    EXPECT_LE(excess.max().item<double>(), tolerance) << "gradient of input " << i << ": got\n"
                                                      << analytic << "\nexpected\n"
                                                      << numeric;
  }
}

}  // namespace vlmamba::test
