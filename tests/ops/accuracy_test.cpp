#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>

#include "kernels/cpu/work.h"
#include "vlmamba/ops/selective_scan.h"

// The accuracy of the scan's exponential and softplus that docs/numerics.md states, measured through the op itself over
// floats of the whole range, on every instruction set that this processor has.

namespace vlmamba::ops {
namespace {

using at::Tensor;
using cpu::InstructionSet;

constexpr double kUnit = 1.0 / (1 << 24);  // half a unit in the last place, relative

// Every 499th float from `from` to `to`, both of one sign.
Tensor floats_between(float from, float to) {
  uint32_t first, last;
  std::memcpy(&first, &from, sizeof first);
  std::memcpy(&last, &to, sizeof last);
  if (first > last) std::swap(first, last);
  const Tensor values = at::empty({1, 1, (last - first) / 499}, at::kFloat);
  float* to_value = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const uint32_t bits = first + static_cast<uint32_t>(i) * 499;
    std::memcpy(to_value + i, &bits, sizeof bits);
  }
  return values;
}

// The state after one step from 1 with nothing added: exp(x).
Tensor exp_by_scan(const Tensor& x) {
  const int64_t count = x.size(2);
  const Tensor zero = at::zeros({1, 1, 1, 1}), one = at::ones({1, count, 1});
  return std::get<1>(selective_scan(at::zeros_like(x), x, at::ones({count, 1}), zero, zero, {}, {}, {}, false, one));
}

// The state after one step from 0 with one added: softplus(x).
Tensor softplus_by_scan(const Tensor& x) {
  const Tensor one = at::ones({1, 1, 1, 1});
  return std::get<1>(selective_scan(at::ones_like(x), x, at::zeros({x.size(2), 1}), one, one, {}, {}, {}, true));
}

// The largest relative error in units of 2^-24, as a share of what is allowed at that argument.
void expect_accurate(const char* name, const Tensor& x, const Tensor& got, double (*exact)(double),
                     const std::function<double(double)>& allowed) {
  const float *at = x.data_ptr<float>(), *value = got.data_ptr<float>();
  double most = 0, most_units = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double expected = exact(at[i]);
    if (expected < std::numeric_limits<float>::min() || expected > std::numeric_limits<float>::max()) continue;
    const double units = std::fabs(value[i] - expected) / expected / kUnit;
    if (!(units / allowed(at[i]) <= most)) most = units / allowed(at[i]), most_units = units;
  }
  std::printf("  %s: %.1f x 2^-24, %.2f of what is allowed\n", name, most_units, most);
  EXPECT_LT(most, 1) << name;
}

double exact_softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

class Accuracy : public testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    if (!cpu::has_instruction_set(GetParam())) GTEST_SKIP() << "this processor has no such instructions";
    cpu::use_instruction_set(GetParam());
  }
  void TearDown() override { cpu::use_instruction_set(before_); }

  InstructionSet before_ = cpu::instruction_set();
};

TEST_P(Accuracy, ExponentialsAreAsGoodAsTheirRoundedArgument) {
  const auto allowed = [](double x) { return 4 + 2 * std::fabs(x); };
  for (const float most : {-87.0f, 88.0f}) {
    const Tensor x = floats_between(std::copysign(1e-10f, most), most);
    expect_accurate(most < 0 ? "exp below 0" : "exp above 0", x, exp_by_scan(x), std::exp, allowed);
  }
  const Tensor ends = at::tensor({0.0f, -200.0f, 200.0f, NAN}).view({1, 1, 4});
  const Tensor got = exp_by_scan(ends).flatten();
  EXPECT_EQ(got[0].item<float>(), 1);
  EXPECT_EQ(got[1].item<float>(), 0);
  EXPECT_EQ(got[2].item<float>(), INFINITY);
  EXPECT_TRUE(std::isnan(got[3].item<float>()));
}

TEST_P(Accuracy, SoftplusIsAsGoodAsItsExponential) {
  const auto allowed = [](double x) { return 12 + 2 * std::fmax(0.0, -x); };
  for (const float most : {-86.0f, 100.0f}) {
    const Tensor x = floats_between(std::copysign(1e-10f, most), most);
    expect_accurate(most < 0 ? "softplus below 0" : "softplus above 0", x, softplus_by_scan(x), exact_softplus,
                    allowed);
  }
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, Accuracy,
                         testing::Values(InstructionSet::kBaseline, InstructionSet::kAvx2, InstructionSet::kAvx512));

}  // namespace
}  // namespace vlmamba::ops
