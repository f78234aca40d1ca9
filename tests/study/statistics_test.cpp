#include "vlmamba/study/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "vlmamba/core/rng.h"

namespace vlmamba::study {
namespace {

TEST(Statistics, TheDeviationIsThatOfASample) {
  const Spread spread = spread_of({2, 4, 9});
  EXPECT_DOUBLE_EQ(spread.mean, 5);
  EXPECT_DOUBLE_EQ(spread.deviation, std::sqrt((9.0 + 1 + 16) / 2));
  EXPECT_EQ(spread_of({7}).deviation, 0);
  EXPECT_EQ(spread_of({}).count, 0);
}

// With three pairs every one of the 27 resamples is known, so that the distribution's quantiles are too.
TEST(Statistics, TheBootstrapAgreesWithAllResamplesOfThreePairs) {
  const std::vector<double> left{0, 0, 0}, right{0, 3, 12};
  std::vector<double> all;
  for (const double a : right)
    for (const double b : right)
      for (const double c : right) all.push_back((a + b + c) / 3);
  std::sort(all.begin(), all.end());
  for (const double level : {0.5, 0.8, 0.9}) {
    const Interval interval = paired_bootstrap(left, right, 40000, 5, level);
    EXPECT_DOUBLE_EQ(interval.difference, 5);
    const auto quantile = [&](double share) { return all[static_cast<size_t>(std::ceil(share * 27)) - 1]; };
    EXPECT_DOUBLE_EQ(interval.low, quantile((1 - level) / 2)) << level;
    EXPECT_DOUBLE_EQ(interval.high, quantile((1 + level) / 2)) << level;
  }
}

// Of many pairs the mean is normal: its interval is known in closed form.
TEST(Statistics, TheBootstrapAgreesWithTheNormalInterval) {
  Rng rng(3, RngPurpose::kExample);
  std::vector<double> left, right, pairs;
  for (int i = 0; i < 2000; ++i) {
    left.push_back(rng.uniform() < 0.5 ? 1 : 0);
    right.push_back(rng.uniform() < 0.7 ? 1 : left.back());
    pairs.push_back(right.back() - left.back());
  }
  const Spread spread = spread_of(pairs);
  const double half = 1.959964 * spread.deviation / std::sqrt(2000.0);
  const Interval interval = paired_bootstrap(left, right, 4000, 1);
  EXPECT_DOUBLE_EQ(interval.difference, spread.mean);
  EXPECT_NEAR(interval.low, spread.mean - half, 0.06 * half);
  EXPECT_NEAR(interval.high, spread.mean + half, 0.06 * half);
}

TEST(Statistics, TheSeedDecidesAndEqualRunsHaveNoWidth) {
  const std::vector<double> left{0, 1, 1, 0, 1}, right{1, 1, 0, 0, 1};
  const Interval one = paired_bootstrap(left, right, 300, 1), again = paired_bootstrap(left, right, 300, 1);
  EXPECT_EQ(one.low, again.low);
  EXPECT_EQ(one.high, again.high);
  const Interval none = paired_bootstrap(left, left, 300, 1);
  EXPECT_EQ(none.low, 0);
  EXPECT_EQ(none.high, 0);
  EXPECT_EQ(paired_bootstrap({}, {}, 300, 1).high, 0);
}

}  // namespace
}  // namespace vlmamba::study
