#include "vlmamba/data/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "vlmamba/core/rng.h"

namespace vlmamba {
namespace {

std::vector<int64_t> positions(Sampler sampler, int64_t first, int64_t count) {
  std::vector<int64_t> records;
  for (int64_t i = 0; i < count; ++i) records.push_back(sampler.at(first + i));
  return records;
}

SamplerInput one_set(int64_t count) {
  return {{{count, 1}}, std::vector<SamplerInput::RecordSize>(static_cast<size_t>(count))};
}

std::map<int64_t, int64_t> times(const std::vector<int64_t>& records) {
  std::map<int64_t, int64_t> count;
  for (const int64_t record : records) ++count[record];
  return count;
}

TEST(Sampler, GivesEveryRecordOnceAnEpochInChangingOrder) {
  const Sampler sampler({.seed = 7}, one_set(10));
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t e = 0; e < 3; ++e) epochs.push_back(positions(sampler, e * 10, 10));
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  for (auto epoch : epochs) {
    std::sort(epoch.begin(), epoch.end());
    EXPECT_THAT(epoch, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  }
  EXPECT_EQ(positions(sampler, 25, 1)[0], epochs[2][5]) << "a position does not depend on how it was reached";
  EXPECT_NE(positions(Sampler({.seed = 7, .stream = 1}, one_set(1000)), 0, 5),
            positions(Sampler({.seed = 7}, one_set(1000)), 0, 5))
      << "stages of one seed differ";
}

// Three sets: a third of the first an epoch, all of the second, the third two and a half times.
TEST(Sampler, AMixtureHoldsItsSharesAndRepeatsNothingBeforeAllWasSeen) {
  SamplerInput input{{{30, 1.0 / 3}, {7, 1}, {4, 2.5}}, std::vector<SamplerInput::RecordSize>(41)};
  const Sampler sampler({.seed = 3}, input);
  ASSERT_EQ(sampler.epoch_size(), 10 + 7 + 10);
  std::map<int64_t, int64_t> total;
  for (int64_t epoch = 0; epoch < 6; ++epoch) {
    const auto seen = times(positions(sampler, epoch * 27, 27));
    for (const auto& [record, count] : seen) total[record] += count;
    int64_t small = 0;
    for (int64_t r = 0; r < 30; ++r) small += seen.count(r) ? seen.at(r) : 0;
    EXPECT_EQ(small, 10);
    for (int64_t r = 30; r < 37; ++r) EXPECT_EQ(seen.at(r), 1);
    int64_t least = 1000, most = 0;
    for (int64_t r = 0; r < 30; ++r) least = std::min(least, total[r]), most = std::max(most, total[r]);
    EXPECT_LE(most - least, 1) << "after epoch " << epoch;
    least = 1000, most = 0;
    for (int64_t r = 37; r < 41; ++r) least = std::min(least, total[r]), most = std::max(most, total[r]);
    EXPECT_LE(most - least, 1) << "after epoch " << epoch;
  }
  for (int64_t r = 0; r < 30; ++r) EXPECT_EQ(total[r], 2);
  for (int64_t r = 37; r < 41; ++r) EXPECT_EQ(total[r], 15);
}

SamplerInput mixed(int64_t pictures, int64_t texts) {
  SamplerInput input = one_set(pictures + texts);
  Rng rng(11, RngPurpose::kExample);
  for (size_t i = 0; i < input.sizes.size(); ++i)
    input.sizes[i] = {static_cast<uint32_t>(1 + rng.below(400)), static_cast<int64_t>(i) < pictures};
  return input;
}

class Grouped : public testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t, int64_t>> {};

TEST_P(Grouped, StepsHoldOneModalityAndMicroBatchesAreSortedAndEven) {
  const auto [pictures, texts, batch, micro] = GetParam();
  const SamplerInput input = mixed(pictures, texts);
  const Sampler sampler({.seed = 5, .group_by = GroupBy::kModalityLength, .global_batch = batch, .micro_batch = micro},
                        input);
  const int64_t size = pictures + texts;
  const auto picture = [&](int64_t record) { return input.sizes[static_cast<size_t>(record)].has_picture; };
  const auto words = [&](int64_t record) { return input.sizes[static_cast<size_t>(record)].words; };
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const auto records = positions(sampler, epoch * size, size);
    EXPECT_EQ(std::set<int64_t>(records.begin(), records.end()).size(), records.size()) << "epoch " << epoch;
  }
  const int64_t steps = 4 * size / batch;
  int64_t mixed_steps = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const auto records = positions(sampler, step * batch, batch);
    const auto with = std::count_if(records.begin(), records.end(), picture);
    mixed_steps += with != 0 && with != batch ? 1 : 0;
    // Steps that lie within the whole batches of an epoch: neither its begun first step nor its rest.
    const int64_t epoch = step * batch / size, behind = epoch * size + size - (step + 1) * batch;
    if (step * batch - epoch * size < batch || behind < 2 * batch) continue;
    std::vector<int64_t> totals;
    for (int64_t first = 0; first < batch; first += micro) {
      int64_t total = 0;
      for (int64_t i = first; i < first + micro; ++i) {
        total += words(records[static_cast<size_t>(i)]);
        if (i > first) {
          EXPECT_GE(words(records[static_cast<size_t>(i - 1)]), words(records[static_cast<size_t>(i)]));
        }
      }
      totals.push_back(total);
    }
    // Dealt greedily, micro-batches differ by no more than the longest record of the step.
    const auto [least, most] = std::minmax_element(totals.begin(), totals.end());
    if (micro > 1) {
      EXPECT_LE(*most - *least, 400);
    }
  }
  // Where a modality ends: once in the rest of an epoch, and once in the step that it shares with the next.
  EXPECT_LE(mixed_steps, 4 * 2);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Grouped,
                         testing::Values(std::tuple{200, 60, 16, 4}, std::tuple{203, 61, 16, 4},
                                         std::tuple{37, 90, 8, 8}, std::tuple{100, 0, 12, 3}, std::tuple{0, 50, 6, 1},
                                         std::tuple{5, 3, 16, 8}, std::tuple{1, 1, 4, 2}));

TEST(Sampler, GroupedByLengthAloneMixesModalitiesAndCountsAPictureAs128Words) {
  SamplerInput input = one_set(8);
  for (size_t i = 0; i < 8; ++i) input.sizes[i] = {static_cast<uint32_t>(i < 4 ? 10 + i : 100 + i), i < 4};
  const auto records =
      positions(Sampler({.seed = 1, .group_by = GroupBy::kLength, .global_batch = 8, .micro_batch = 8}, input), 0, 8);
  EXPECT_THAT(records, testing::ElementsAre(3, 2, 1, 0, 7, 6, 5, 4));
}

TEST(Sampler, AGroupedOrderIsTheSameFromAnyStart) {
  const SamplerPlan plan{.seed = 9, .group_by = GroupBy::kModalityLength, .global_batch = 8, .micro_batch = 2};
  const auto all = positions(Sampler(plan, mixed(50, 31)), 0, 81 * 3);
  for (const int64_t start : {0, 7, 80, 81, 100, 200})
    EXPECT_EQ(positions(Sampler(plan, mixed(50, 31)), start, 40),
              std::vector<int64_t>(all.begin() + start, all.begin() + start + 40));
}

TEST(Sampler, AReplacementIsOfTheSameSetAndModalityAndDependsOnItsPosition) {
  SamplerInput input{{{20, 1}, {20, 1}}, std::vector<SamplerInput::RecordSize>(40)};
  for (size_t i = 0; i < 40; ++i) input.sizes[i].has_picture = i % 4 == 0;
  const Sampler sampler({.seed = 2}, input);
  std::set<int64_t> drawn;
  for (int64_t position = 0; position < 200; ++position) {
    const int64_t record = sampler.replacement(position, 24, 0);
    EXPECT_EQ(record, sampler.replacement(position, 24, 0));
    EXPECT_NE(record, 24);
    EXPECT_GE(record, 20);
    EXPECT_EQ(record % 4, 0);
    drawn.insert(record);
  }
  EXPECT_EQ(drawn.size(), 4u) << "every other record with a picture of the set";
  EXPECT_EQ(Sampler({.seed = 2}, one_set(1)).replacement(0, 0, 0), 0) << "there is no other";
}

}  // namespace
}  // namespace vlmamba
