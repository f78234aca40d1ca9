#include <sstream>

#include "tests/emulated_cuda/device_under_test.h"
#include "vlmamba/ops/reference.h"

// rms_norm and add_rms_norm of the device against the reference in fp64 on the same rounded inputs.

namespace vlmamba::test {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
using Norm = Tensor(const Tensor&, const Tensor&, double);
using Wanted = std::array<bool, 2>;
using NormBackward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double, Wanted);
using AddNorm = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double);
using AddNormBackward = std::tuple<Tensor, Tensor>(const Optional&, const Optional&, const Tensor&, const Tensor&,
                                                   double, Wanted);

constexpr double kEps = 1e-5;
constexpr Wanted kAll{true, true};
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

at::ScalarType wide(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }
Tensor random(at::IntArrayRef sizes, at::ScalarType type) { return at::randn(sizes, at::kDouble).to(type); }

std::string name(at::IntArrayRef sizes, at::ScalarType type) {
  std::ostringstream text;
  text << sizes << " " << type;
  return text.str();
}

void expect_norm_equals_reference(at::IntArrayRef sizes, at::ScalarType type, at::ScalarType weight_type) {
  SCOPED_TRACE(name(sizes, type));
  const Tensor x = random(sizes, type), weight = random({sizes.back()}, weight_type), dy = random(sizes, type);
  const auto actual = same_in_every_order([&]() -> std::vector<Tensor> {
    const auto [dx, dweight] = run_kernel<NormBackward>("vlmamba::rms_norm_backward", dy, x, weight, kEps, kAll);
    return {run_kernel<Norm>("vlmamba::rms_norm", x, weight, kEps), dx, dweight};
  });
  const std::vector<Tensor> leaves{leaf(x), leaf(weight)};
  const Tensor y = ops::reference::rms_norm(leaves[0], leaves[1], kEps);
  const auto wanted = gradients_of({y}, leaves, {dy});
  expect_close(actual[0], y, tolerance(type), "y");
  expect_close(actual[1], wanted[0], tolerance(type), "dx", scale_of(wanted[0]));
  expect_close(actual[2], wanted[1], tolerance(weight_type), "dweight", scale_of(wanted[1]));
}

void expect_add_norm_equals_reference(at::IntArrayRef sizes, at::ScalarType type, at::ScalarType residual_type) {
  SCOPED_TRACE(name(sizes, type));
  const Tensor x = random(sizes, type), residual = random(sizes, residual_type),
               weight = random({sizes.back()}, wide(type));
  const Tensor dy = random(sizes, type), dsum = random(sizes, wide(type));
  const auto actual = same_in_every_order([&]() -> std::vector<Tensor> {
    const auto [y, sum] = run_kernel<AddNorm>("vlmamba::add_rms_norm", x, residual, weight, kEps);
    const auto [ds, dweight] = run_kernel<AddNormBackward>("vlmamba::add_rms_norm_backward", Optional(dy),
                                                           Optional(dsum), sum, weight, kEps, kAll);
    return {y, sum, ds, dweight};
  });
  EXPECT_EQ(actual[1].scalar_type(), wide(type));
  EXPECT_EQ(actual[2].scalar_type(), wide(type));
  const std::vector<Tensor> leaves{leaf(x), leaf(residual), leaf(weight)};
  const auto [y, sum] = ops::reference::add_rms_norm(leaves[0], leaves[1], leaves[2], kEps);
  const auto wanted = gradients_of({y, sum}, leaves, {dy, dsum});
  expect_close(actual[0], y, tolerance(type), "y");
  expect_close(actual[1], sum, tolerance(wide(type)), "residual_out");
  expect_close(actual[2], wanted[0], tolerance(wide(type)), "dsum", scale_of(wanted[0]));
  expect_close(actual[3], wanted[2], tolerance(wide(type)), "dweight", scale_of(wanted[2]));
}

using NormKernel = KernelTest;

TEST_F(NormKernel, EqualsTheReferenceForEveryTypeAndShape) {
  set_multiprocessors(1);
  for (const auto type : kTypes)
    for (const int64_t channels : {1, 7, 32, 33, 100, 132}) {
      expect_norm_equals_reference({2, 19, channels}, type, wide(type));
      expect_add_norm_equals_reference({2, 19, channels}, type, type);
    }
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    expect_norm_equals_reference({5, 40}, type, type);
    expect_add_norm_equals_reference({5, 40}, type, at::kFloat);
    expect_add_norm_equals_reference({5, 41}, type, at::kFloat);
  }
}

TEST_F(NormKernel, EqualsTheReferenceForLongRows) {
  for (const int64_t channels : {1024, 1027, 2560})
    expect_add_norm_equals_reference({3, channels}, at::kFloat, at::kFloat);
  expect_norm_equals_reference({2, 25000}, at::kFloat, at::kFloat);  // weight gradients past shared memory
}

TEST_F(NormKernel, EqualsTheReferenceForManyRowsAndNone) {
  for (const int64_t rows : {0, 1, 300}) {
    expect_norm_equals_reference({rows, 8}, at::kFloat, at::kFloat);
    expect_add_norm_equals_reference({rows, 8}, at::kFloat, at::kFloat);
  }
  set_multiprocessors(1000);  // more parts than are summed at once
  expect_norm_equals_reference({600, 4}, at::kFloat, at::kFloat);
}

TEST_F(NormKernel, TakesAnyStridesAndAlignment) {
  const Tensor x = at::randn({3, 8}), weight = at::randn({8}), dy = at::randn({3, 8});
  const Tensor shifted = at::empty({25}).slice(0, 1).copy_(x.flatten()).view({3, 8});
  const Tensor plain = run_kernel<Norm>("vlmamba::rms_norm", x, weight, kEps);
  EXPECT_TRUE(at::equal(plain, run_kernel<Norm>("vlmamba::rms_norm", x.t().contiguous().t(), weight, kEps)));
  // Another width of vector adds the squares in another order.
  expect_close(run_kernel<Norm>("vlmamba::rms_norm", shifted, weight, kEps), plain, 1e-6, "y");
  const auto [dx, dweight] = run_kernel<NormBackward>("vlmamba::rms_norm_backward", dy, x, weight, kEps, kAll);
  const auto [dx1, dweight1] = run_kernel<NormBackward>("vlmamba::rms_norm_backward", dy, shifted, weight, kEps, kAll);
  expect_close(dx1, dx, 2e-6, "dx");
  expect_close(dweight1, dweight, 2e-6, "dweight");
}

TEST_F(NormKernel, ServesWhateverGradientsAreThere) {
  const Tensor sum = at::randn({4, 6}), weight = at::randn({6}), dy = at::randn({4, 6}), dsum = at::randn({4, 6});
  const auto backward = [&](const Optional& of_y, const Optional& of_sum) {
    return run_kernel<AddNormBackward>("vlmamba::add_rms_norm_backward", of_y, of_sum, sum, weight, kEps, kAll);
  };
  const auto [both, weight_both] = backward(dy, dsum);
  const auto [alone, weight_alone] = backward(dy, {});
  const auto [passed, weight_passed] = backward({}, dsum);
  EXPECT_TRUE(at::equal(weight_both, weight_alone));
  EXPECT_TRUE(at::equal(passed, dsum));
  EXPECT_FALSE(passed.is_alias_of(dsum));
  EXPECT_TRUE(at::equal(weight_passed, at::zeros({6})));
  expect_close(alone + dsum, both, 1e-6, "dsum");
  EXPECT_TRUE(at::equal(std::get<0>(backward({}, {})), at::zeros({4, 6})));
}

TEST_F(NormKernel, ComputesTheGradientsThatAreWanted) {
  const Tensor x = at::randn({7, 40}), weight = at::randn({40}), dy = at::randn({7, 40});
  expect_only_wanted<2>([&](const Wanted& wanted) -> std::vector<Tensor> {
    const auto [dx, dweight] = run_kernel<NormBackward>("vlmamba::rms_norm_backward", dy, x, weight, kEps, wanted);
    return {dx, dweight};
  });
}

TEST_F(NormKernel, NotANumberStaysInItsRow) {
  Tensor x = at::randn({5, 40});
  const Tensor weight = at::randn({40}), clean = run_kernel<Norm>("vlmamba::rms_norm", x, weight, kEps);
  x[2][3] = NAN;
  const Tensor y = run_kernel<Norm>("vlmamba::rms_norm", x, weight, kEps);
  EXPECT_TRUE(y[2].isnan().all().item<bool>());
  for (const int row : {0, 1, 3, 4}) EXPECT_TRUE(at::equal(y[row], clean[row]));
}

}  // namespace
}  // namespace vlmamba::test
