#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/ops/finite_difference.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/reference.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::expect_gradients_match;

double largest(const Tensor& a, const Tensor& b) {
  return a.numel() == 0 ? 0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

Tensor fp64(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); }

// Padding in front, two runs, padding behind; one run and padding within; nothing but padding.
Tensor runs() {
  return at::tensor({-1, 0, 0, 1, 1, 1, -1, 3, 3, -1, 3, 3, 3, 4, -1, -1, -1, -1, -1, -1, -1}, at::kInt).view({3, 7});
}

// The definition, one number after another: the inputs of each run are listed, then summed.
std::pair<Tensor, Tensor> naive(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& initial,
                                const Tensor& seq_idx, bool silu) {
  const int64_t taps = weight.size(1);
  Tensor y = at::zeros_like(x), last = initial.clone();
  for (int64_t b = 0; b < x.size(0); ++b)
    for (int64_t d = 0; d < x.size(2); ++d) {
      std::vector<double> inputs;
      for (int64_t w = 0; w + 1 < taps; ++w) inputs.push_back(initial[b][w][d].item<double>());
      int run = -1;
      bool first = true;
      for (int64_t t = 0; t < x.size(1); ++t) {
        const int id = seq_idx.defined() ? seq_idx[b][t].item<int>() : 0;
        if (id != run && id >= 0 && !first) inputs.assign(static_cast<size_t>(taps - 1), 0);
        run = id;
        if (id < 0) continue;
        first = false;
        inputs.push_back(x[b][t][d].item<double>());
        double sum = bias[d].item<double>();
        for (int64_t w = 0; w < taps; ++w)
          sum += weight[d][w].item<double>() * inputs[inputs.size() - static_cast<size_t>(taps - w)];
        y[b][t][d] = silu ? sum / (1 + std::exp(-sum)) : sum;
      }
      for (int64_t w = 0; w + 1 < taps; ++w) last[b][w][d] = inputs[inputs.size() - static_cast<size_t>(taps - 1 - w)];
    }
  return {y, last};
}

TEST(CausalConv1d, KernelAndReferenceEqualTheDefinition) {
  at::manual_seed(1);
  for (const int64_t taps : {1, 2, 4, 9})
    for (const bool with_runs : {false, true})
      for (const char* activation : {"none", "silu"}) {
        const Tensor x = fp64({3, 7, 19}), weight = fp64({19, taps}), bias = fp64({19}),
                     initial = fp64({3, taps - 1, 19});
        const auto seq = with_runs ? std::optional(runs()) : std::nullopt;
        const auto [y0, last0] =
            naive(x, weight, bias, initial, seq.value_or(Tensor()), std::string(activation) == "silu");
        const auto [y, last] = causal_conv1d(x, weight, bias, initial, seq, activation);
        EXPECT_LT(largest(y, y0), 1e-12) << taps << activation << with_runs;
        EXPECT_LT(largest(last, last0), 1e-12) << taps << activation << with_runs;
        const auto [y1, last1] = reference::causal_conv1d(x, weight, bias, initial, seq, activation);
        EXPECT_LT(largest(y1, y0), 1e-12) << taps << activation << with_runs;
        EXPECT_LT(largest(last1, last0), 1e-12) << taps << activation << with_runs;
      }
}

TEST(CausalConv1d, GradientsEqualFiniteDifferences) {
  at::manual_seed(2);
  for (const int64_t taps : {1, 3})
    for (const bool with_runs : {false, true})
      expect_gradients_match(
          [&](const std::vector<Tensor>& x) -> std::vector<Tensor> {
            const auto seq = with_runs ? std::optional(runs()) : std::nullopt;
            auto [y, last] = causal_conv1d(x[0], x[1], x[2], x[3], seq, "silu");
            return {y, last};
          },
          {fp64({3, 7, 2}), fp64({2, taps}), fp64({2}), fp64({3, taps - 1, 2})});
}

TEST(CausalConv1d, GradientOfTheFinalStateAlone) {
  at::manual_seed(3);
  const Tensor x = fp64({1, 5, 2}).requires_grad_(), weight = fp64({2, 3});
  const auto last = std::get<1>(causal_conv1d(x, weight));
  torch::autograd::backward({last.sum()}, {});
  EXPECT_TRUE(at::equal(x.grad(), at::tensor({0., 0., 0., 1., 1.}).to(at::kDouble).view({1, 5, 1}).expand({1, 5, 2})));
}

TEST(CausalConv1d, RoundsNarrowTypesOnce) {
  at::manual_seed(4);
  for (const auto& [type, tolerance] :
       {std::pair{at::kFloat, 3e-6}, {at::kBFloat16, 1.0 / 256}, {at::kHalf, 1.0 / 2048}}) {
    const Tensor x = at::randn({2, 30, 20}).to(type), weight = at::randn({20, 4}), bias = at::randn({20});
    const auto y = std::get<0>(causal_conv1d(x, weight, bias, {}, {}, "silu"));
    const auto y0 = std::get<0>(
        reference::causal_conv1d(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble), {}, {}, "silu"));
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_LT(((y.to(at::kDouble) - y0).abs() / (1 + y0.abs())).max().item<double>(), tolerance);
  }
}

TEST(CausalConv1d, PaddingIsNeverRead) {
  at::manual_seed(5);
  const Tensor x = fp64({3, 7, 4}), weight = fp64({4, 4});
  const Tensor dirty = x.masked_fill(runs().lt(0).unsqueeze(-1), NAN);
  EXPECT_TRUE(at::equal(std::get<0>(causal_conv1d(x, weight, {}, {}, runs())),
                        std::get<0>(causal_conv1d(dirty, weight, {}, {}, runs()))));
}

TEST(CausalConv1d, StepsOfDecodingEqualTheWhole) {
  at::manual_seed(6);
  const Tensor x = fp64({2, 6, 5}), weight = fp64({5, 4}), bias = fp64({5});
  const auto [y, last] = causal_conv1d(x, weight, bias, {}, {}, "silu");
  Tensor state = at::zeros({2, 3, 5}, at::kDouble);
  for (int64_t t = 0; t < 6; ++t)
    EXPECT_LT(largest(causal_conv1d_update(x.select(1, t), state, weight, bias, "silu"), y.select(1, t)), 1e-12);
  EXPECT_TRUE(at::equal(state, last));
}

TEST(CausalConv1d, SplitWithCarriedStateEqualsWhole) {
  at::manual_seed(7);
  const Tensor x = at::randn({2, 9, 17}), weight = at::randn({17, 4});
  const auto whole = causal_conv1d(x, weight), first = causal_conv1d(x.slice(1, 0, 2), weight);
  const auto second = causal_conv1d(x.slice(1, 2), weight, {}, std::get<1>(first));
  EXPECT_TRUE(at::equal(std::get<0>(whole), at::cat({std::get<0>(first), std::get<0>(second)}, 1)));
  EXPECT_TRUE(at::equal(std::get<1>(whole), std::get<1>(second)));
}

TEST(CausalConv1d, ThreadsDoNotChangeABit) {
  at::manual_seed(8);
  const Tensor x = at::randn({3, 40, 50}).requires_grad_(), weight = at::randn({50, 4}).requires_grad_();
  const auto run = [&] {
    const auto y = std::get<0>(causal_conv1d(x, weight, {}, {}, {}, "silu"));
    auto all = torch::autograd::grad({y}, {x, weight}, {at::ones_like(y)});
    all.push_back(y.detach());
    return all;
  };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = run();
  at::set_num_threads(2);
  const auto two = run();
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << "tensor " << i;
}

TEST(CausalConv1d, EmptyInputsAndOutputsThatAlias) {
  const Tensor initial = fp64({2, 2, 4});
  const auto [y, last] = causal_conv1d(fp64({2, 0, 4}), fp64({4, 3}), {}, initial);
  EXPECT_EQ(y.numel(), 0);
  EXPECT_TRUE(at::equal(last, initial));
  EXPECT_FALSE(last.is_alias_of(initial));
  EXPECT_EQ(std::get<0>(causal_conv1d(fp64({0, 3, 4}), fp64({4, 3}))).size(0), 0);
}

TEST(CausalConv1d, NamesTheWrongArgument) {
  try {
    causal_conv1d(fp64({2, 3, 4}), fp64({5, 4}));
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("[causal_conv1d] weight: expected shape [4, -1] (-1: any), got [5, 4]"),
              std::string::npos)
        << error.what();
  }
}

class CausalConv1d2d : public testing::TestWithParam<const char*> {};

TEST_P(CausalConv1d2d, InPlaceEqualsPermutedPlainConvolutions) {
  at::manual_seed(9);
  const int64_t H = 3, W = 4, D = 21, K = cross_scan(at::zeros({1, 12, 1}), GetParam(), H, W).size(1);
  for (const bool own_weights : {false, true}) {
    const Tensor x = fp64({2, H * W, D}), weight = own_weights ? fp64({K, D, 4}) : fp64({D, 4}),
                 bias = own_weights ? fp64({K, D}) : fp64({D});
    EXPECT_LT(largest(causal_conv1d_2d(x, weight, bias, GetParam(), H, W, "silu"),
                      reference::causal_conv1d_2d(x, weight, bias, GetParam(), H, W, "silu")),
              1e-12);
  }
}

TEST_P(CausalConv1d2d, GradientsEqualFiniteDifferences) {
  at::manual_seed(10);
  const int64_t H = 2, W = 3, D = 2, K = cross_scan(at::zeros({1, 6, 1}), GetParam(), H, W).size(1);
  for (const bool own_weights : {false, true})
    expect_gradients_match(
        [&](const std::vector<Tensor>& x) -> std::vector<Tensor> {
          return {causal_conv1d_2d(x[0], x[1], x[2], GetParam(), H, W, "silu")};
        },
        {fp64({2, H * W, D}), own_weights ? fp64({K, D, 3}) : fp64({D, 3}), own_weights ? fp64({K, D}) : fp64({D})});
}

INSTANTIATE_TEST_SUITE_P(Scans, CausalConv1d2d, testing::Values("forward", "bidirectional", "cross"));

}  // namespace
}  // namespace vlmamba::ops
