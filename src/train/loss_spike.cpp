#include "vlmamba/train/loss_spike.h"

#include <cmath>
#include <cstdio>

namespace vlmamba {

std::optional<std::string> loss_spike(const LossSpikeConfig& config, double loss, std::vector<double>& before) {
  if (config.deviations == 0) {
    before.clear();
    return {};
  }
  const auto window = static_cast<size_t>(config.window);
  if (before.size() > window) before.erase(before.begin(), before.end() - config.window);  // it was longer once
  std::optional<std::string> text;
  if (before.size() == window) {
    double mean = 0, square = 0;
    for (const double one : before) mean += one / static_cast<double>(window);
    for (const double one : before) square += (one - mean) * (one - mean) / static_cast<double>(window);
    const double deviation = std::sqrt(square);
    if (loss > mean + config.deviations * deviation && loss > mean * (1 + 1e-6)) {
      char buffer[160];
      std::snprintf(buffer, sizeof buffer,
                    "loss %.4f stands out: the %lld losses before have mean %.4f and deviation %.4f", loss,
                    static_cast<long long>(config.window), mean, deviation);
      text = buffer;
    }
    before.erase(before.begin());
  }
  before.push_back(loss);
  return text;
}

}  // namespace vlmamba
