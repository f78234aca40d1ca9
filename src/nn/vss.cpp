#include "vlmamba/nn/vss.h"

#include <ATen/ATen.h>

#include "vlmamba/nn/ss2d.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::nn {

using at::Tensor;

Vss::Vss(const VssConfig& config, int64_t width, int64_t height, int64_t map_width)
    : config_(config), height_(height), width_(map_width), scan_(enum_name(config.scan)) {
  if (config.scan == Scan::kNone) return;
  const auto directions = static_cast<int64_t>(ops::scan_directions(scan_).size());
  const bool shared = config.weights == Weights::kShared;
  if (config.block == Block::kSs2d) {
    ss2d_ =
        register_module("ss2d", std::make_shared<Ss2d>(width, config.d_state, config.expand, shared ? 1 : directions));
  } else {
    const MambaShape shape{width, config.d_state, config.d_conv, config.expand, 0};
    mamba_ = register_module("mamba", std::make_shared<MambaMixer>(shape));
    for (int64_t k = 1; !shared && k < directions; ++k)
      directions_.push_back(
          register_module("direction_" + std::to_string(k), std::make_shared<MambaMixer>(shape, /*scan_only=*/true)));
  }
  if (config.merge == Merge::kConcat)
    concat_ = register_module("concat", std::make_shared<Linear>(directions * width, width));
}

Tensor Vss::merged(const Tensor& by_direction) const {
  switch (config_.merge) {
    case Merge::kSum:
      return by_direction.sum(2);
    case Merge::kMean:
      return by_direction.mean(2);
    case Merge::kConcat:
      return concat_->forward(by_direction.flatten(2));
  }
  return by_direction;
}

Tensor Vss::forward(const Tensor& x) const {
  if (config_.scan == Scan::kNone) return x;
  if (ss2d_) {
    const bool concat = config_.merge == Merge::kConcat;
    const Tensor y = ss2d_->forward(x, scan_, height_, width_, config_.merge == Merge::kMean, concat);
    return concat ? concat_->forward(y.flatten(2)) : y;
  }
  const size_t directions = ops::scan_directions(scan_).size();
  std::vector<const MambaMixer*> own(directions, mamba_.get());
  for (size_t k = 0; k < directions_.size(); ++k) own[k + 1] = directions_[k].get();
  return merged(mamba_->forward_2d(x, own, scan_, height_, width_));
}

}  // namespace vlmamba::nn
