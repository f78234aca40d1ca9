#include "vlmamba/train/loss_spike.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

namespace vlmamba {
namespace {

// A loss that falls as a real one does, with the noise of its batches.
double clean_loss(int step, std::mt19937& random) {
  std::normal_distribution<double> noise(0, 0.05);
  return 1.5 + 4 * std::exp(-step / 2000.0) + noise(random);
}

TEST(LossSpike, PlantedOnesAreFoundAndCleanCurvesGiveNone) {
  std::mt19937 random(1);
  std::vector<double> clean, planted;
  int false_alarms = 0;
  for (int step = 0; step < 100'000; ++step)
    false_alarms += loss_spike({}, clean_loss(step, random), clean).has_value();
  EXPECT_EQ(false_alarms, 0);

  int found = 0;
  for (int step = 0; step < 8'000; ++step) {
    const bool spike = step % 400 == 399;
    const bool told = loss_spike({}, clean_loss(step, random) + (spike ? 0.6 : 0), planted).has_value();
    EXPECT_EQ(told, spike) << step;
    found += told;
  }
  std::printf("planted spikes found: %d of 20, false alarms in 100000 clean steps: %d\n", found, false_alarms);
}

TEST(LossSpike, NoneWithoutDeviations) {
  std::vector<double> before;
  for (const double loss : {1.0, 1.1, 1.0, 99.0}) EXPECT_FALSE(loss_spike({2, 0}, loss, before).has_value());
  for (const double loss : {1.0, 1.1, 1.0}) EXPECT_FALSE(loss_spike({3, 2}, loss, before).has_value());
  EXPECT_TRUE(loss_spike({3, 2}, 99, before).has_value());
}

TEST(LossSpike, AWindowThatChangedTakesTheNewestLosses) {
  std::vector<double> before{9, 9, 9, 1, 1.1, 1};
  EXPECT_TRUE(loss_spike({3, 6}, 2, before).has_value());
  EXPECT_EQ(before, (std::vector<double>{1.1, 1, 2}));
  EXPECT_FALSE(loss_spike({5, 6}, 99, before).has_value());  // too few of them
  EXPECT_EQ(before, (std::vector<double>{1.1, 1, 2, 99}));
}

}  // namespace
}  // namespace vlmamba
