#include <random>

#include "tests/ops/compare.h"
#include "tests/ops/finite_difference.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/reference.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::difference;
using test::expect_gradients_match;
using test::fp64;

double largest(const Tensor& a, const Tensor& b) {
  return a.numel() == 0 ? 0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// Rows of runs of random lengths, some of them padding.
Tensor random_runs(int64_t rows, int64_t length) {
  Tensor ids = at::empty({rows, length}, at::kInt);
  std::mt19937 random(1);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t t = 0; t < length;) {
      const int64_t end = std::min<int64_t>(length, t + 1 + random() % 8), id = static_cast<int64_t>(random() % 6) - 1;
      for (; t < end; ++t) ids[row][t] = id;
    }
  return ids;
}

// Every output and every gradient of `conv` at leaves of this type, with fixed cotangents.
template <typename Conv>
std::vector<Tensor> values_and_gradients(const Conv& conv, const std::vector<Tensor>& inputs,
                                         const std::vector<Tensor>& cotangents, bool wide) {
  std::vector<Tensor> leaves, outgoing;
  for (const Tensor& input : inputs)
    leaves.push_back((wide ? input.to(at::kDouble) : input).detach().clone().requires_grad_());
  const std::vector<Tensor> outputs = conv(leaves);
  for (size_t i = 0; i < outputs.size(); ++i) outgoing.push_back(cotangents[i].to(outputs[i].scalar_type()));
  std::vector<Tensor> all = torch::autograd::grad(outputs, leaves, outgoing);
  for (const Tensor& output : outputs) all.push_back(output.detach());
  return all;
}

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
  for (const int64_t taps : {1, 3, 4})
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

// Longer than a block's turn, more channels than a stripe; in every type, as the reference in fp64.
TEST(CausalConv1d, EveryTypesValuesAndGradientsEqualTheReference) {
  at::manual_seed(4);
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf})
    for (const int64_t taps : {1, 2, 4, 6}) {
      const int64_t B = 2, L = 75, D = 263;
      const Tensor runs = random_runs(B, L);
      const auto narrow = [type = type](at::IntArrayRef sizes) { return at::randn(sizes).to(type); };
      const auto math = type == at::kDouble ? at::kDouble : at::kFloat;
      const std::vector<Tensor> inputs{narrow({B, L, D}), at::randn({D, taps}, math), at::randn({D}, math),
                                       narrow({B, taps - 1, D})};
      const std::vector<Tensor> cotangents{narrow({B, L, D}), narrow({B, taps - 1, D})};
      const auto got = values_and_gradients(
          [&](const auto& x) -> std::vector<Tensor> {
            const auto [y, last] = causal_conv1d(x[0], x[1], x[2], x[3], runs, "silu");
            return {y, last};
          },
          inputs, cotangents, false);
      const auto expected = values_and_gradients(
          [&](const auto& x) -> std::vector<Tensor> {
            const auto [y, last] = reference::causal_conv1d(x[0], x[1], x[2], x[3], runs, "silu");
            return {y, last};
          },
          inputs, cotangents, true);
      for (size_t i = 0; i < got.size(); ++i) {
        const auto own = got[i].scalar_type();
        EXPECT_LT(difference(got[i], expected[i]), own == at::kFloat ? 1e-5 : test::rounding(own))
            << "tensor " << i << " of " << type << " with " << taps << " taps";
      }
    }
}

TEST(CausalConv1d, NanStaysInItsChannelAndItsRun) {
  at::manual_seed(12);
  const Tensor ids = at::tensor({0, 0, 0, 0, 7, 7, 7, 7}, at::kInt).view({1, 8}), weight = at::randn({20, 4});
  Tensor x = at::randn({1, 8, 20});
  x[0][3][5] = NAN;
  x.requires_grad_();
  const auto [y, last] = causal_conv1d(x, weight, {}, {}, ids, "silu");
  const Tensor dx = torch::autograd::grad({y, last}, {x}, {at::ones_like(y), at::ones_like(last)})[0];
  for (const Tensor& tensor : {y.detach(), dx})
    for (int64_t t = 0; t < 8; ++t)
      for (int64_t d = 0; d < 20; ++d)
        EXPECT_TRUE((t <= 3 && d == 5) || tensor[0][t][d].isfinite().item<bool>()) << t << " " << d;
  EXPECT_TRUE(last.isfinite().all().item<bool>());
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
  const Tensor x = at::randn({3, 40, 333}).requires_grad_(), weight = at::randn({333, 4}).requires_grad_();
  test::expect_threads_change_nothing([&] {
    const Tensor y = std::get<0>(causal_conv1d(x, weight, {}, {}, {}, "silu"));
    const Tensor z = causal_conv1d_2d(x, weight, {}, "cross", 5, 8, "silu");
    auto all = torch::autograd::grad({y, z}, {x, weight}, {at::ones_like(y), at::ones_like(z)});
    all.push_back(y.detach());
    all.push_back(z.detach());
    return all;
  });
}

TEST(CausalConv1d, EmptyInputsAndOutputsThatAlias) {
  const Tensor initial = fp64({2, 2, 4});
  const auto [y, last] = causal_conv1d(fp64({2, 0, 4}), fp64({4, 3}), {}, initial);
  EXPECT_EQ(y.numel(), 0);
  EXPECT_TRUE(at::equal(last, initial));
  EXPECT_FALSE(last.is_alias_of(initial));
  EXPECT_EQ(std::get<0>(causal_conv1d(fp64({0, 3, 4}), fp64({4, 3}))).size(0), 0);
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

TEST_P(CausalConv1d2d, EveryTypesValuesAndGradientsEqualTheReference) {
  at::manual_seed(11);
  const int64_t H = 6, W = 7, D = 70, K = cross_scan(at::zeros({1, 42, 1}), GetParam(), H, W).size(1);
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf})
    for (const int64_t taps : {3, 4}) {
      const auto math = type == at::kDouble ? at::kDouble : at::kFloat;
      const std::vector<Tensor> inputs{at::randn({2, H * W, D}).to(type), at::randn({K, D, taps}, math),
                                       at::randn({D}, math)};
      const std::vector<Tensor> cotangents{at::randn({2, H * W, K, D}).to(type)};
      const auto got = values_and_gradients(
          [&](const auto& x) -> std::vector<Tensor> {
            return {causal_conv1d_2d(x[0], x[1], x[2], GetParam(), H, W, "silu")};
          },
          inputs, cotangents, false);
      const auto expected = values_and_gradients(
          [&](const auto& x) -> std::vector<Tensor> {
            return {reference::causal_conv1d_2d(x[0], x[1], x[2], GetParam(), H, W, "silu")};
          },
          inputs, cotangents, true);
      for (size_t i = 0; i < got.size(); ++i) {
        const auto own = got[i].scalar_type();
        EXPECT_LT(difference(got[i], expected[i]), own == at::kFloat ? 1e-5 : test::rounding(own))
            << "tensor " << i << " of " << type << " with " << taps << " taps";
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Scans, CausalConv1d2d, testing::Values("forward", "bidirectional", "cross"));

}  // namespace
}  // namespace vlmamba::ops
