#pragma once

#include <cstdint>

// How the CPU kernels divide their work: by row of the batch and by block of channels. Without LibTorch.

namespace vlmamba::cpu {

constexpr int64_t kBlockChannels = 16;  // of a block, unless the kernel has lanes of its own

// What happens at a position of a row: it goes on from what was before it, starts a run with nothing before it, or is
// padding. The first run of a row goes on from the initial state.
enum class StepKind : int8_t { kGoOn, kReset, kPadding };

// Where the lanes of a block lie among the channels.
struct Block {
  int64_t channel, width, group;
};

// A group's channels in blocks of `lanes`, so that no block has two groups.
constexpr int64_t blocks_per_group(int64_t channels, int64_t groups, int64_t lanes = kBlockChannels) {
  return (channels / groups + lanes - 1) / lanes;
}

constexpr Block block_at(int64_t channels, int64_t groups, int64_t index, int64_t lanes = kBlockChannels) {
  const int64_t size = channels / groups, per_group = blocks_per_group(channels, groups, lanes);
  const int64_t group = index / per_group, first = index % per_group * lanes;
  return {group * size + first, size - first < lanes ? size - first : lanes, group};
}

}  // namespace vlmamba::cpu
