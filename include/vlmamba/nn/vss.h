#pragma once

#include <torch/nn/module.h>

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/nn/norm.h"

namespace vlmamba::nn {

enum class Scan { kNone, kForward, kBidirectional, kCross };
constexpr auto enum_names(Scan) {
  return std::array{EnumName<Scan>{Scan::kNone, "none"}, EnumName<Scan>{Scan::kForward, "forward"},
                    EnumName<Scan>{Scan::kBidirectional, "bidirectional"}, EnumName<Scan>{Scan::kCross, "cross"}};
}
enum class Merge { kSum, kMean, kConcat };
constexpr auto enum_names(Merge) {
  return std::array{EnumName<Merge>{Merge::kSum, "sum"}, EnumName<Merge>{Merge::kMean, "mean"},
                    EnumName<Merge>{Merge::kConcat, "concat"}};
}
enum class Block { kMamba, kSs2d };
constexpr auto enum_names(Block) {
  return std::array{EnumName<Block>{Block::kMamba, "mamba"}, EnumName<Block>{Block::kSs2d, "ss2d"}};
}
enum class Weights { kShared, kPerDirection };
constexpr auto enum_names(Weights) {
  return std::array{EnumName<Weights>{Weights::kShared, "shared"},
                    EnumName<Weights>{Weights::kPerDirection, "per_direction"}};
}

/// The vision selective scan: what the paper fixes (the scans) and what it leaves open (docs/paper_gaps.md).
struct VssConfig {
  Scan scan = Scan::kBidirectional;
  Merge merge = Merge::kSum;
  Block block = Block::kMamba;
  Weights weights = Weights::kShared;
  NormKind norm = NormKind::kLayerNorm;
  int64_t width = 0;
  int64_t d_state = 16;
  int64_t d_conv = 4;
  int64_t expand = 2;

  template <typename F>
  void visit(F& f) {
    f("scan", scan, "orders in which the patches are scanned; none: the scan gives its input");
    f("merge", merge, "how the directions are merged; concat: Linear(K * width -> width)");
    f("block", block, "mamba: a Mamba layer over the sequences (the paper's words); ss2d: VMamba's first block");
    f("weights", weights,
      "one set of scan parameters for all directions, or one each (in_proj and out_proj are shared)");
    f("norm", norm, "the norm of the connector");
    f("width", width, "channels of the scan; 0: the encoder's (vss_mlp) or the language model's (vss_l2)",
      Range{0, kMostChannels});
    f("d_state", d_state, "states per channel", Range{1, kMostChannels});
    f("d_conv", d_conv, "taps of the causal convolution (block mamba)", Range{1, kMostChannels});
    f("expand", expand, "inner channels per channel", Range{1, kMostChannels});
  }
};

/// VSS over a map of height * width patches: x [I,P,width] -> [I,P,width].
class Vss : public torch::nn::Module {
 public:
  Vss(const VssConfig& config, int64_t width, int64_t height, int64_t map_width);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  at::Tensor merged(const at::Tensor& by_direction) const;  // [I,P,K,D] -> [I,P,D]

  VssConfig config_;
  int64_t height_, width_;
  std::string_view scan_;
  std::shared_ptr<MambaMixer> mamba_;                    // in_proj, out_proj, and the scan's own parameters if shared
  std::vector<std::shared_ptr<MambaMixer>> directions_;  // the other directions' own parameters
  std::shared_ptr<class Ss2d> ss2d_;
  std::shared_ptr<Linear> concat_;
};

}  // namespace vlmamba::nn
