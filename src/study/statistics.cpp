#include "vlmamba/study/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vlmamba/core/rng.h"

namespace vlmamba::study {

Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  spread.count = static_cast<int64_t>(values.size());
  if (values.empty()) return spread;
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  if (values.size() < 2) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / static_cast<double>(values.size() - 1));
  return spread;
}

Interval paired_bootstrap(const std::vector<double>& left, const std::vector<double>& right, int64_t draws,
                          uint64_t seed, double level) {
  Interval interval;
  const size_t size = std::min(left.size(), right.size());
  if (size == 0 || draws < 1) return interval;
  std::vector<double> pairs(size), means;
  for (size_t i = 0; i < size; ++i) pairs[i] = right[i] - left[i];
  const auto count = static_cast<double>(size);
  interval.difference = std::accumulate(pairs.begin(), pairs.end(), 0.0) / count;
  means.reserve(static_cast<size_t>(draws));
  for (int64_t draw = 0; draw < draws; ++draw) {
    Rng rng(seed, RngPurpose::kBootstrap, static_cast<uint64_t>(draw));
    double sum = 0;
    for (size_t i = 0; i < size; ++i) sum += pairs[rng.below(size)];
    means.push_back(sum / count);
  }
  std::sort(means.begin(), means.end());
  const auto quantile = [&](double share) {
    const auto last = static_cast<double>(means.size() - 1);
    return means[static_cast<size_t>(std::lround(std::clamp(share, 0.0, 1.0) * last))];
  };
  interval.low = quantile((1 - level) / 2);
  interval.high = quantile((1 + level) / 2);
  return interval;
}

}  // namespace vlmamba::study
