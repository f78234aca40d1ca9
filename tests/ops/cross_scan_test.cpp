#include "vlmamba/ops/cross_scan.h"

#include "tests/ops/compare.h"
#include "tests/ops/finite_difference.h"
#include "vlmamba/ops/reference.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::difference;
using test::fp64;

// The pixel that a direction reads at step t, from VMamba's words: rows, columns, and both from their ends.
int64_t pixel_at(int direction, int64_t t, int64_t height, int64_t width) {
  if (direction >= 2) t = height * width - 1 - t;
  return direction % 2 == 0 ? t : t % height * width + t / height;
}

class CrossScan : public testing::TestWithParam<const char*> {
 protected:
  const std::vector<int>& directions() const { return scan_directions(GetParam()); }
  int64_t K() const { return static_cast<int64_t>(directions().size()); }
};

TEST_P(CrossScan, KernelAndReferenceEqualTheDefinition) {
  at::manual_seed(1);
  const int64_t H = 3, W = 5, L = H * W;
  for (const int64_t D : {1, 16, 37}) {
    const Tensor x = fp64({2, L, D}), many = fp64({2, K(), L, D});
    Tensor scanned = at::zeros({2, K(), L, D}, at::kDouble), merged = at::zeros({2, L, D}, at::kDouble);
    for (int64_t k = 0; k < K(); ++k)
      for (int64_t t = 0; t < L; ++t) {
        const int64_t pixel = pixel_at(directions()[static_cast<size_t>(k)], t, H, W);
        scanned.select(1, k).select(1, t).copy_(x.select(1, pixel));
        merged.select(1, pixel).add_(many.select(1, k).select(1, t));
      }
    EXPECT_TRUE(at::equal(cross_scan(x, GetParam(), H, W), scanned));
    EXPECT_TRUE(at::equal(reference::cross_scan(x, GetParam(), H, W), scanned));
    EXPECT_LT(difference(cross_merge(many, GetParam(), H, W), merged), 1e-14);
    EXPECT_LT(difference(reference::cross_merge(many, GetParam(), H, W), merged), 1e-14);
  }
}

TEST_P(CrossScan, GradientsEqualFiniteDifferencesTwice) {
  at::manual_seed(2);
  const int64_t H = 2, W = 3, L = H * W;
  test::expect_gradients_match(
      [&](const auto& x) -> std::vector<Tensor> { return {cross_scan(x[0], GetParam(), H, W)}; }, {fp64({2, L, 3})});
  test::expect_gradients_match(
      [&](const auto& x) -> std::vector<Tensor> { return {cross_merge(x[0], GetParam(), H, W)}; },
      {fp64({2, K(), L, 3})});
  // The gradient of a square depends on x, and so has a gradient.
  const Tensor x = fp64({1, L, 2}).requires_grad_(), y = cross_scan(x, GetParam(), H, W);
  const Tensor dx = torch::autograd::grad({y.square()}, {x}, {at::ones_like(y)}, true, /*create_graph=*/true)[0];
  const Tensor ddx = torch::autograd::grad({dx}, {x}, {at::ones_like(dx)})[0];
  EXPECT_TRUE(at::equal(ddx, at::full_like(ddx, 2.0 * static_cast<double>(K()))));
}

TEST_P(CrossScan, NarrowTypesAreSummedInFloatAndRoundedOnce) {
  at::manual_seed(3);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Tensor x = at::randn({2, K(), 12, 21}).to(type);
    Tensor sum = at::zeros({2, 12, 21});
    const auto back = reference::cross_scan(at::arange(12, at::kDouble).view({1, 12, 1}), GetParam(), 3, 4);
    for (int64_t k = 0; k < K(); ++k)
      sum = sum + x.select(1, k).to(at::kFloat).index_select(1, back[0][k].flatten().argsort());
    EXPECT_TRUE(at::equal(cross_merge(x, GetParam(), 3, 4), sum.to(type))) << type;
  }
}

TEST_P(CrossScan, StridesAndThreadsChangeNothing) {
  at::manual_seed(4);
  const Tensor x = at::randn({3, 56, 40}), many = at::randn({3, K(), 56, 40});
  EXPECT_TRUE(at::equal(cross_scan(test::with_strides(x), GetParam(), 7, 8), cross_scan(x, GetParam(), 7, 8)));
  EXPECT_TRUE(at::equal(cross_merge(test::with_strides(many), GetParam(), 7, 8), cross_merge(many, GetParam(), 7, 8)));
  test::expect_threads_change_nothing([&]() -> std::vector<Tensor> {
    return {cross_scan(x, GetParam(), 7, 8), cross_merge(many, GetParam(), 7, 8)};
  });
}

TEST_P(CrossScan, EmptyInputsWorkAndNothingAliases) {
  EXPECT_EQ(cross_scan(at::zeros({0, 6, 3}), GetParam(), 2, 3).sizes(), at::IntArrayRef({0, K(), 6, 3}));
  EXPECT_EQ(cross_scan(at::zeros({2, 0, 3}), GetParam(), 0, 3).sizes(), at::IntArrayRef({2, K(), 0, 3}));
  EXPECT_EQ(cross_merge(at::zeros({2, K(), 0, 3}), GetParam(), 0, 0).sizes(), at::IntArrayRef({2, 0, 3}));
  const Tensor x = at::zeros({1, 6, 3}), many = at::zeros({1, K(), 6, 3});
  EXPECT_FALSE(cross_scan(x, GetParam(), 2, 3).is_alias_of(x));
  EXPECT_FALSE(cross_merge(many, GetParam(), 2, 3).is_alias_of(many));
}

INSTANTIATE_TEST_SUITE_P(Scans, CrossScan, testing::Values("forward", "bidirectional", "cross"));

}  // namespace
}  // namespace vlmamba::ops
