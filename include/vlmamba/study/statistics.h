#pragma once

#include <cstdint>
#include <vector>

namespace vlmamba::study {

/// Mean and standard deviation of a sample (n - 1 below the root; 0 for one value).
struct Spread {
  double mean = 0, deviation = 0;
  int64_t count = 0;
};
Spread spread_of(const std::vector<double>& values);

/// A confidence interval of a difference.
struct Interval {
  double difference = 0, low = 0, high = 0;
};

/// Percentile bootstrap of mean(right) - mean(left) over questions that both answered: pairs are drawn with
/// replacement, so that what is hard for both does not count. `level` of the `draws` differences lie between low and
/// high. The same seed gives the same interval. Empty vectors give zeros; both must have the same size.
Interval paired_bootstrap(const std::vector<double>& left, const std::vector<double>& right, int64_t draws,
                          uint64_t seed, double level = 0.95);

}  // namespace vlmamba::study
