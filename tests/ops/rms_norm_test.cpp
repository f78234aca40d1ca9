#include "vlmamba/ops/rms_norm.h"

#include "tests/ops/compare.h"
#include "tests/ops/finite_difference.h"
#include "vlmamba/ops/reference.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::difference;
using test::expect_gradients_match;
using test::fp64;
using test::rounding;

Tensor naive(const Tensor& x, const Tensor& weight, double eps) {
  Tensor y = at::zeros_like(x);
  for (int64_t row = 0; row < x.size(0); ++row) {
    double squares = 0;
    for (int64_t d = 0; d < x.size(1); ++d) squares += std::pow(x[row][d].item<double>(), 2);
    for (int64_t d = 0; d < x.size(1); ++d)
      y[row][d] = x[row][d].item<double>() / std::sqrt(squares / static_cast<double>(x.size(1)) + eps) *
                  weight[d].item<double>();
  }
  return y;
}

TEST(RmsNorm, KernelAndReferenceEqualTheDefinition) {
  at::manual_seed(1);
  for (const int64_t channels : {1, 5, 16, 37}) {
    const Tensor x = fp64({7, channels}), weight = fp64({channels}), expected = naive(x, weight, 1e-3);
    EXPECT_LT(difference(rms_norm(x, weight, 1e-3), expected), 1e-12) << channels;
    EXPECT_LT(difference(reference::rms_norm(x, weight, 1e-3), expected), 1e-12) << channels;
    const Tensor residual = fp64({7, channels});
    const auto [y, sum] = add_rms_norm(x, residual, weight, 1e-3);
    const auto [y0, sum0] = reference::add_rms_norm(x, residual, weight, 1e-3);
    EXPECT_TRUE(at::equal(sum, x + residual));
    EXPECT_TRUE(at::equal(sum0, x + residual));
    EXPECT_LT(difference(y, naive(x + residual, weight, 1e-3)), 1e-12) << channels;
    EXPECT_LT(difference(y0, naive(x + residual, weight, 1e-3)), 1e-12) << channels;
  }
}

TEST(RmsNorm, GradientsEqualFiniteDifferences) {
  at::manual_seed(2);
  for (const int64_t channels : {1, 3, 18}) {
    expect_gradients_match([](const auto& x) -> std::vector<Tensor> { return {rms_norm(x[0], x[1], 1e-2)}; },
                           {fp64({2, 2, channels}), fp64({channels})});
    expect_gradients_match(
        [](const auto& x) -> std::vector<Tensor> {
          const auto [y, sum] = add_rms_norm(x[0], x[1], x[2], 1e-2);
          return {y, sum};
        },
        {fp64({2, 2, channels}), fp64({2, 2, channels}), fp64({channels})});
  }
}

TEST(RmsNorm, NarrowTypesAreRoundedOnce) {
  at::manual_seed(3);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf})
    for (const bool narrow_weight : {false, true})
      for (const bool narrow_residual : {false, true}) {
        const auto wide = [](const Tensor& tensor) { return tensor.to(at::kDouble); };
        const Tensor x = at::randn({9, 40}).to(type), weight = at::randn({40}).to(narrow_weight ? type : at::kFloat),
                     residual = at::randn({9, 40}).to(narrow_residual ? type : at::kFloat);
        const Tensor y = rms_norm(x, weight);
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_LT(difference(y, reference::rms_norm(wide(x), wide(weight))), rounding(type));
        const auto [z, sum] = add_rms_norm(x, residual, weight);
        const auto [z0, sum0] = reference::add_rms_norm(wide(x), wide(residual), wide(weight));
        EXPECT_EQ(z.scalar_type(), type);
        EXPECT_EQ(sum.scalar_type(), at::kFloat);
        EXPECT_LT(difference(z, z0), rounding(type));
        EXPECT_LT(difference(sum, sum0), 1e-7);
      }
}

// The gradients of both outputs, and of either alone, as autograd derives them from the reference.
TEST(RmsNorm, EveryGradientEqualsTheReferenceInEveryType) {
  at::manual_seed(4);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf})
    for (const bool use_y : {true, false})
      for (const bool use_sum : {true, false}) {
        if (!use_y && !use_sum) continue;
        const Tensor x = at::randn({50, 33}).to(type), residual = at::randn({50, 33}), weight = at::randn({33});
        const Tensor dy = at::randn({50, 33}).to(type), dsum = at::randn({50, 33});
        const auto gradients = [&](const auto& norm, at::ScalarType wide) {
          const auto leaf = [&](const Tensor& tensor) {
            return tensor.to(wide == at::kDouble ? wide : tensor.scalar_type()).detach().clone().requires_grad_();
          };
          const std::vector<Tensor> leaves{leaf(x), leaf(residual), leaf(weight)};
          const auto [y, sum] = norm(leaves[0], leaves[1], leaves[2]);
          std::vector<Tensor> outputs, cotangents;
          if (use_y) outputs.push_back(y), cotangents.push_back(dy.to(y.scalar_type()));
          if (use_sum) outputs.push_back(sum), cotangents.push_back(dsum.to(sum.scalar_type()));
          return torch::autograd::grad(outputs, leaves, cotangents, false, false, /*allow_unused=*/true);
        };
        const auto got = gradients([](auto&&... in) { return add_rms_norm(in..., 1e-5); }, type);
        const auto expected = gradients([](auto&&... in) { return reference::add_rms_norm(in..., 1e-5); }, at::kDouble);
        for (size_t i = 0; i < got.size(); ++i) {
          if (!expected[i].defined()) {
            EXPECT_TRUE(!got[i].defined() || got[i].eq(0).all().item<bool>());
            continue;
          }
          EXPECT_LT(difference(got[i], expected[i]), i == 0 ? rounding(type) : 1e-5) << "input " << i << " of " << type;
        }
      }
}

TEST(RmsNorm, AnyStridesAndAnyNumberOfThreadsGiveTheSameBits) {
  at::manual_seed(5);
  const Tensor x = at::randn({4, 300, 50}), residual = at::randn({4, 300, 50}), weight = at::randn({50}),
               dy = at::randn({4, 300, 50}), dsum = at::randn({4, 300, 50});
  const auto run = [&](const auto& laid_out) {
    const std::vector<Tensor> leaves{laid_out(x).requires_grad_(), laid_out(residual).requires_grad_(),
                                     laid_out(weight).requires_grad_()};
    const auto [y, sum] = add_rms_norm(leaves[0], leaves[1], leaves[2]);
    auto all = torch::autograd::grad({y, sum}, leaves, {laid_out(dy), laid_out(dsum)});
    const Tensor z = rms_norm(leaves[0], leaves[2]);
    for (const Tensor& gradient : torch::autograd::grad({z}, {leaves[0], leaves[2]}, {laid_out(dy)}))
      all.push_back(gradient);
    for (const Tensor& output : {y, sum, z}) all.push_back(output.detach());
    return all;
  };
  const auto plain = run([](const Tensor& tensor) { return tensor.clone(); });
  const auto strided = run([](const Tensor& tensor) { return test::with_strides(tensor); });
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], strided[i])) << "tensor " << i;
  test::expect_threads_change_nothing([&] { return run([](const Tensor& tensor) { return tensor.clone(); }); });
}

TEST(RmsNorm, NanStaysInItsRow) {
  Tensor x = at::ones({3, 20});
  x[1][4] = NAN;
  x.requires_grad_();
  const Tensor y = rms_norm(x, at::ones({20})), dx = torch::autograd::grad({y}, {x}, {at::ones_like(y)})[0];
  for (const Tensor& tensor : {y.detach(), dx}) {
    EXPECT_TRUE(tensor[0].isfinite().all().item<bool>());
    EXPECT_TRUE(tensor[1].isnan().all().item<bool>());
    EXPECT_TRUE(tensor[2].isfinite().all().item<bool>());
  }
}

TEST(RmsNorm, EmptyInputsWork) {
  for (const auto& sizes : {std::vector<int64_t>{0, 8}, {2, 0, 8}, {3, 0}}) {
    const Tensor x = at::randn(sizes).requires_grad_(), weight = at::randn({sizes.back()}).requires_grad_();
    const auto [y, sum] = add_rms_norm(x, at::zeros(sizes), weight);
    const auto gradients = torch::autograd::grad({y}, {x, weight}, {at::ones_like(y)});
    EXPECT_EQ(y.sizes(), x.sizes());
    EXPECT_EQ(gradients[0].sizes(), x.sizes());
    EXPECT_TRUE(at::equal(gradients[1], at::zeros_like(weight)));
    EXPECT_EQ(rms_norm(x, weight).sizes(), x.sizes());
  }
}

TEST(RmsNorm, ANonContiguousSumOfExpandedZerosIsItsInput) {
  const Tensor x = at::randn({2, 3, 4}), nothing = at::zeros({}).expand({2, 3, 4});
  const auto [y, sum] = add_rms_norm(x, nothing, at::ones({4}));
  EXPECT_TRUE(at::equal(sum, x));
  EXPECT_FALSE(sum.is_alias_of(x));
}

}  // namespace
}  // namespace vlmamba::ops
