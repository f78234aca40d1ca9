#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace vlmamba {

/// What a random draw is for: part of its key, so that no two uses share numbers.
enum class RngPurpose : uint32_t {
  kSampler = 1,
  kTrainStep = 2,
  kGeneration = 3,
  kInit = 4,
  kExample = 5,
  kSplit = 6,
  kMixture = 7,
  kReplacement = 8,
  kBootstrap = 9,
};

/// Philox4x32-10 (Salmon et al., 2011), keyed by (seed, purpose) and counted from (a, b): every draw is a pure
/// function of its key, so that a resumed run needs no saved generator.
class Rng {
 public:
  Rng(uint64_t seed, RngPurpose purpose, uint64_t a = 0, uint32_t b = 0)
      : key_{static_cast<uint32_t>(seed) ^ 0x5851f42du * static_cast<uint32_t>(purpose),
             static_cast<uint32_t>(seed >> 32)},
        counter_{0, static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32), b} {}

  uint32_t next() {
    if (used_ == 4) {
      block_ = generate();
      ++counter_[0];
      used_ = 0;
    }
    return block_[used_++];
  }

  /// Uniform in [0, 1) with 53 bits.
  double uniform() {
    const uint64_t high = next() >> 5, low = next() >> 6;
    return static_cast<double>((high << 26) | low) * 0x1p-53;
  }

  /// Uniform in [0, n), without bias. n > 0.
  uint64_t below(uint64_t n) {
    const uint64_t reject = (0 - n) % n;
    for (;;) {
      const uint64_t value = (static_cast<uint64_t>(next()) << 32) | next();
      if (value >= reject) return value % n;
    }
  }

  /// A random order of 0 .. n-1.
  std::vector<int64_t> permutation(int64_t n) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(i)]);
    return order;
  }

 private:
  std::array<uint32_t, 4> generate() const {
    auto c = counter_;
    auto k = key_;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
      c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
           static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
      k[0] += 0x9E3779B9u;
      k[1] += 0xBB67AE85u;
    }
    return c;
  }

  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace vlmamba
