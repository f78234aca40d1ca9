#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/ops/finite_difference.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/reference.h"
#include "vlmamba/ops/selective_scan.h"
#include "vlmamba/ops/selective_scan_2d.h"
#include "vlmamba/ops/selective_state_update.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::expect_gradients_match;

// The definition, one number after another in fp64.
struct Scan {
  int64_t batch = 2, length = 7, channels = 5, states = 3, groups = 1;
  Tensor u, delta, A, B, C, D, z, bias, initial;

  explicit Scan(int64_t b = 2, int64_t l = 7, int64_t d = 5, int64_t n = 3, int64_t g = 1)
      : batch(b), length(l), channels(d), states(n), groups(g) {
    const auto fp64 = at::TensorOptions(at::kDouble);
    u = at::randn({b, l, d}, fp64);
    delta = at::randn({b, l, d}, fp64);
    A = -at::rand({d, n}, fp64) - 0.1;
    B = at::randn({b, l, g, n}, fp64);
    C = at::randn({b, l, g, n}, fp64);
    D = at::randn({d}, fp64);
    z = at::randn({b, l, d}, fp64);
    bias = at::randn({d}, fp64);
    initial = at::randn({b, d, n}, fp64);
  }
};

std::pair<Tensor, Tensor> naive(const Scan& s, const Tensor& seq_idx = {}) {
  Tensor y = at::zeros_like(s.u), last = s.initial.clone();
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t d = 0; d < s.channels; ++d) {
      const int64_t g = d / (s.channels / s.groups);
      int run = -1;
      bool started = false;
      for (int64_t t = 0; t < s.length; ++t) {
        const int id = seq_idx.defined() ? seq_idx[b][t].item<int>() : 0;
        if (id < 0) {
          run = -1;
          continue;
        }
        if (started && id != run) last[b][d].zero_();
        run = id, started = true;
        const double pre = s.delta[b][t][d].item<double>() + s.bias[d].item<double>();
        const double delta = pre > 20 ? pre : std::log1p(std::exp(pre)), u = s.u[b][t][d].item<double>();
        double sum = s.D[d].item<double>() * u;
        for (int64_t n = 0; n < s.states; ++n) {
          const double h = std::exp(delta * s.A[d][n].item<double>()) * last[b][d][n].item<double>() +
                           delta * s.B[b][t][g][n].item<double>() * u;
          last[b][d][n] = h;
          sum += s.C[b][t][g][n].item<double>() * h;
        }
        const double z = s.z[b][t][d].item<double>();
        y[b][t][d] = sum * z / (1 + std::exp(-z));
      }
    }
  return {y, last};
}

double largest(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

Tensor runs() {  // two rows of seven: padding in front, two runs, padding behind; one run and padding within
  return at::tensor({-1, 0, 0, 1, 1, 1, -1, 3, 3, -1, 3, 3, 3, 4}, at::kInt).view({2, 7});
}

TEST(SelectiveScan, EqualsTheDefinitionInFp64) {
  at::manual_seed(1);
  for (const auto& [d, n, g] : {std::tuple{5, 3, 1}, {4, 1, 2}, {40, 16, 2}, {33, 8, 3}})
    for (const bool with_runs : {false, true}) {
      const Scan s(2, 7, d, n, g);
      const auto seq = with_runs ? std::optional(runs()) : std::nullopt;
      const auto [y, last] = selective_scan(s.u, s.delta, s.A, s.B, s.C, s.D, s.z, s.bias, true, s.initial, seq);
      const auto [y0, last0] = naive(s, seq.value_or(Tensor()));
      EXPECT_LT(largest(y, y0), 1e-12);
      EXPECT_LT(largest(last, last0), 1e-12);
    }
}

TEST(SelectiveScan, TheReferenceEqualsTheDefinitionAndItsGradients) {
  at::manual_seed(12);
  const Scan s(2, 7, 6, 3, 2);
  const auto [y0, last0] = naive(s, runs());
  const auto [y, last] =
      reference::selective_scan(s.u, s.delta, s.A, s.B, s.C, s.D, s.z, s.bias, true, s.initial, runs());
  EXPECT_LT(largest(y, y0), 1e-12);
  EXPECT_LT(largest(last, last0), 1e-12);
  const Tensor weights = at::randn_like(y), last_weights = at::randn_like(last);
  const auto gradients = [&](const auto& scan) {
    std::vector<Tensor> leaves;
    for (const Tensor* x : {&s.u, &s.delta, &s.A, &s.B, &s.C, &s.D, &s.z, &s.bias, &s.initial})
      leaves.push_back(x->detach().clone().requires_grad_());
    const auto [out, state] = scan(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5], leaves[6],
                                   leaves[7], true, leaves[8], runs());
    return torch::autograd::grad({out, state}, leaves, {weights, last_weights});
  };
  const auto expected = gradients([](auto&&... x) { return reference::selective_scan(x...); });
  const auto got = gradients([](auto&&... x) { return selective_scan(x...); });
  for (size_t i = 0; i < got.size(); ++i) EXPECT_LT(largest(got[i], expected[i]), 1e-11) << "input " << i;
}

TEST(SelectiveScan, RoundsNarrowTypesOnce) {
  at::manual_seed(2);
  for (const auto& [type, tolerance] :
       {std::pair{at::kFloat, 3e-6}, {at::kBFloat16, 1.0 / 256}, {at::kHalf, 1.0 / 2048}}) {
    Scan s(2, 50, 20, 16);
    const auto narrow = [type = type](const Tensor& x) { return x.to(type); };
    for (Tensor* x : {&s.u, &s.delta, &s.B, &s.C, &s.z}) *x = narrow(*x).to(at::kDouble);
    for (Tensor* x : {&s.A, &s.D, &s.bias, &s.initial}) *x = x->to(at::kFloat).to(at::kDouble);
    const auto f = [](const Tensor& x) { return x.to(at::kFloat); };
    const auto [y, last] = selective_scan(narrow(s.u), narrow(s.delta), f(s.A), narrow(s.B), narrow(s.C), f(s.D),
                                          narrow(s.z), f(s.bias), true, f(s.initial));
    const auto [y0, last0] = naive(s);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_LT(((y.to(at::kDouble) - y0).abs() / (1 + y0.abs())).max().item<double>(), tolerance);
    EXPECT_LT(((last - last0).abs() / (1 + last0.abs())).max().item<double>(), 3e-6);
  }
}

TEST(SelectiveScan, GradientsEqualFiniteDifferences) {
  at::manual_seed(3);
  for (const bool with_runs : {false, true}) {
    const Scan s(2, 7, 4, 3, 2);
    const auto seq = with_runs ? std::optional(runs()) : std::nullopt;
    expect_gradients_match(
        [&](const std::vector<Tensor>& x) -> std::vector<Tensor> {
          auto [y, last] = selective_scan(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], true, x[8], seq);
          return {y, last};
        },
        {s.u, s.delta, s.A, s.B, s.C, s.D, s.z, s.bias, s.initial});
  }
}

TEST(SelectiveScan, GradientsCrossManyTiles) {
  at::manual_seed(4);
  const Scan s(1, 37, 3, 2);
  expect_gradients_match(
      [&](const std::vector<Tensor>& x) -> std::vector<Tensor> {
        return {std::get<0>(selective_scan(x[0], x[1], x[2], x[3], x[4]))};
      },
      {s.u, s.delta.abs(), s.A, s.B, s.C});
}

TEST(SelectiveScan, PaddingIsNeverRead) {
  at::manual_seed(5);
  const Scan s;
  const auto clean = selective_scan(s.u, s.delta, s.A, s.B, s.C, s.D, s.z, s.bias, true, {}, runs());
  const auto nan_at_padding = runs().lt(0).unsqueeze(-1);
  const auto dirty = [&](const Tensor& x) { return x.masked_fill(nan_at_padding.view({2, 7, 1}), NAN); };
  const auto spoilt =
      selective_scan(dirty(s.u), dirty(s.delta), s.A, s.B, s.C, s.D, dirty(s.z), s.bias, true, {}, runs());
  EXPECT_TRUE(at::equal(std::get<0>(clean), std::get<0>(spoilt)));
  EXPECT_TRUE(at::equal(std::get<1>(clean), std::get<1>(spoilt)));
}

TEST(SelectiveScan, SplitWithCarriedStateEqualsWhole) {
  at::manual_seed(6);
  const Scan s(2, 20, 17, 16);
  const auto part = [&](int64_t from, int64_t to, const std::optional<Tensor>& state) {
    const auto cut = [&](const Tensor& x) { return x.slice(1, from, to).to(at::kFloat); };
    return selective_scan(cut(s.u), cut(s.delta), s.A.to(at::kFloat), cut(s.B), cut(s.C), {}, {}, {}, true, state);
  };
  const auto whole = part(0, 20, {}), first = part(0, 7, {}), second = part(7, 20, std::get<1>(first));
  EXPECT_TRUE(at::equal(std::get<0>(whole), at::cat({std::get<0>(first), std::get<0>(second)}, 1)));
  EXPECT_TRUE(at::equal(std::get<1>(whole), std::get<1>(second)));
}

TEST(SelectiveScan, StepsOfDecodingEqualTheScan) {
  at::manual_seed(7);
  const Scan s(2, 5, 6, 4, 2);
  Tensor state = at::zeros({2, 6, 4}, at::kDouble);
  const auto [y, last] = selective_scan(s.u, s.delta, s.A, s.B, s.C, s.D, s.z, s.bias, true);
  for (int64_t t = 0; t < 5; ++t)
    EXPECT_LT(largest(selective_state_update(state, s.u.select(1, t), s.delta.select(1, t), s.A, s.B.select(1, t),
                                             s.C.select(1, t), s.D, s.z.select(1, t), s.bias, true),
                      y.select(1, t)),
              1e-12);
  EXPECT_LT(largest(state, last), 1e-12);
}

TEST(SelectiveScan, ThreadsDoNotChangeABit) {
  at::manual_seed(8);
  const auto leaf = [](at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(); };
  const Tensor u = leaf({3, 40, 50}), delta = leaf({3, 40, 50}), B = leaf({3, 40, 1, 16}), C = leaf({3, 40, 1, 16});
  const Tensor A = (-at::rand({50, 16})).requires_grad_();
  const auto run = [&] {
    const auto [y, last] = selective_scan(u, delta, A, B, C, {}, {}, {}, true);
    auto all = torch::autograd::grad({y}, {u, delta, A, B, C}, {at::ones_like(y)});
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

TEST(SelectiveScan, EmptyInputsWork) {
  const Scan none(0, 7, 5, 3), still(2, 0, 5, 3);
  EXPECT_EQ(std::get<0>(selective_scan(none.u, none.delta, none.A, none.B, none.C)).numel(), 0);
  const auto [y, last] =
      selective_scan(still.u, still.delta, still.A, still.B, still.C, {}, {}, {}, false, still.initial);
  EXPECT_TRUE(at::equal(last, still.initial));
}

TEST(SelectiveScan, NamesTheWrongArgument) {
  const Scan s;
  try {
    selective_scan(s.u, s.delta, s.A, s.B.slice(3, 0, 2), s.C);
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_NE(
        std::string(error.what()).find("[selective_scan] B: expected shape [2, 7, -1, 3] (-1: any), got [2, 7, 1, 2]"),
        std::string::npos)
        << error.what();
  }
}

class SelectiveScan2d : public testing::TestWithParam<const char*> {};

// A direction in place is the same as: permute, plain scan, permute back. Bit for bit.
TEST_P(SelectiveScan2d, InPlaceEqualsPermutedPlainScans) {
  at::manual_seed(9);
  const int64_t H = 3, W = 5, L = H * W, D = 18, N = 4;
  const int64_t K = cross_scan(at::zeros({1, L, 1}), GetParam(), H, W).size(1);
  for (const bool own_u : {false, true}) {
    const Tensor u = own_u ? at::randn({2, L, K, D}) : at::randn({2, L, D}), delta = at::randn({2, L, K, D});
    const Tensor A = -at::rand({K, D, N}), B = at::randn({2, L, K, 1, N}), C = at::randn({2, L, K, 1, N});
    const Tensor skip = at::randn({K, D}), bias = at::randn({K, D});
    const Tensor apart = selective_scan_2d(u, delta, A, B, C, skip, bias, true, GetParam(), H, W, /*merge=*/false);
    const Tensor merged = selective_scan_2d(u, delta, A, B, C, skip, bias, true, GetParam(), H, W);
    std::vector<Tensor> sequences;
    for (int64_t k = 0; k < K; ++k) {
      const auto order = [&](const Tensor& x) {
        return cross_scan(x.reshape({2, L, -1}), GetParam(), H, W).select(1, k).reshape(x.sizes());
      };
      const auto y =
          std::get<0>(selective_scan(order(own_u ? u.select(2, k) : u), order(delta.select(2, k)), A[k],
                                     order(B.select(2, k)), order(C.select(2, k)), skip[k], {}, bias[k], true));
      sequences.push_back(y);
    }
    const Tensor expected = cross_merge(at::stack(sequences, 1), GetParam(), H, W);
    EXPECT_LT(largest(merged, expected), 1e-5);
    for (int64_t k = 0; k < K; ++k) {
      Tensor only = at::zeros({2, K, L, D});
      only.select(1, k).copy_(sequences[static_cast<size_t>(k)]);
      EXPECT_TRUE(at::equal(apart.select(2, k), cross_merge(only, GetParam(), H, W))) << "direction " << k;
    }
  }
}

TEST_P(SelectiveScan2d, TheReferenceEqualsTheKernel) {
  at::manual_seed(13);
  const auto fp64 = at::TensorOptions(at::kDouble);
  const int64_t H = 3, W = 4, L = H * W, D = 6, N = 3, K = cross_scan(at::zeros({1, L, 1}), GetParam(), H, W).size(1);
  for (const bool merge : {true, false})
    for (const bool own_u : {false, true}) {
      const Tensor u = own_u ? at::randn({2, L, K, D}, fp64) : at::randn({2, L, D}, fp64);
      const Tensor delta = at::randn({2, L, K, D}, fp64), A = -at::rand({K, D, N}, fp64);
      const Tensor B = at::randn({2, L, K, 2, N}, fp64), C = at::randn({2, L, K, 2, N}, fp64);
      const Tensor skip = at::randn({K, D}, fp64), bias = at::randn({K, D}, fp64);
      EXPECT_LT(largest(selective_scan_2d(u, delta, A, B, C, skip, bias, true, GetParam(), H, W, merge),
                        reference::selective_scan_2d(u, delta, A, B, C, skip, bias, true, GetParam(), H, W, merge)),
                1e-12);
    }
}

TEST_P(SelectiveScan2d, GradientsEqualFiniteDifferences) {
  at::manual_seed(10);
  const auto fp64 = at::TensorOptions(at::kDouble);
  const int64_t H = 2, W = 3, L = 6, D = 2, N = 2, K = cross_scan(at::zeros({1, L, 1}), GetParam(), H, W).size(1);
  for (const bool merge : {true, false})
    for (const bool own_u : {false, true})
      expect_gradients_match(
          [&](const std::vector<Tensor>& x) -> std::vector<Tensor> {
            return {selective_scan_2d(x[0], x[1], x[2], x[3], x[4], x[5], x[6], true, GetParam(), H, W, merge)};
          },
          {own_u ? at::randn({1, L, K, D}, fp64) : at::randn({1, L, D}, fp64), at::randn({1, L, K, D}, fp64),
           -at::rand({K, D, N}, fp64), at::randn({1, L, K, 1, N}, fp64), at::randn({1, L, K, 1, N}, fp64),
           at::randn({K, D}, fp64), at::randn({K, D}, fp64)});
}

INSTANTIATE_TEST_SUITE_P(Scans, SelectiveScan2d, testing::Values("forward", "bidirectional", "cross"));

TEST(CrossScan, MergeIsItsAdjoint) {
  at::manual_seed(11);
  const Tensor x = at::randn({2, 6, 3}, at::kDouble), y = at::randn({2, 4, 6, 3}, at::kDouble);
  EXPECT_NEAR((cross_scan(x, "cross", 2, 3) * y).sum().item<double>(),
              (x * cross_merge(y, "cross", 2, 3)).sum().item<double>(), 1e-12);
  const Tensor pixels = at::arange(6).view({1, 6, 1}).to(at::kDouble);
  EXPECT_TRUE(
      at::equal(cross_scan(pixels, "cross", 2, 3).flatten(),
                at::tensor({0, 1, 2, 3, 4, 5, 0, 3, 1, 4, 2, 5, 5, 4, 3, 2, 1, 0, 5, 2, 4, 1, 3, 0}, at::kDouble)));
}

TEST(SelectiveScan, PrintsItsSpeed) {
  const auto value = [](at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(); };
  const Tensor u = value({16, 128, 256}), delta = value({16, 128, 256}), B = value({16, 128, 1, 16}),
               C = value({16, 128, 1, 16});
  const Tensor A = (-at::rand({256, 16})).requires_grad_();
  const auto seconds = [](const auto& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Tensor y;
  const double steps = 16.0 * 128 * 256 * 16;
  const double forward = seconds([&] { y = std::get<0>(selective_scan(u, delta, A, B, C, {}, {}, {}, true)); });
  const double backward = seconds([&] { torch::autograd::grad({y}, {u, delta, A, B, C}, {at::ones_like(y)}); });
  std::printf("selective_scan: forward %.2f, backward %.2f billion state steps a second\n", steps / forward / 1e9,
              steps / backward / 1e9);
  EXPECT_TRUE(y.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace vlmamba::ops
