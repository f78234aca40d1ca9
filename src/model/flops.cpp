#include "vlmamba/model/flops.h"

#include <ATen/ATen.h>

#include "vlmamba/nn/mamba2_mixer.h"
#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba {
namespace {

constexpr double kScan = 9;       // a position, channel and state
constexpr double kSsdChunk = 64;  // positions of a chunk of Mamba-2's scan (nn/ssd_scan.h)

double linear(int64_t in, int64_t out) { return 2 * static_cast<double>(in) * static_cast<double>(out); }
double size(int64_t count) { return static_cast<double>(count); }

// What a Mamba layer does along one direction: convolution, projections, scan.
Flops along_direction(const nn::MambaShape& s) {
  const int64_t inner = s.inner(), rank = s.rank();
  return {linear(inner, rank + 2 * s.d_state) + linear(rank, inner),
          size(inner) * (2 * size(s.d_conv) + kScan * size(s.d_state))};
}

Flops mamba(const nn::MambaShape& s) {
  return Flops{linear(s.dim, 2 * s.inner()) + linear(s.inner(), s.dim), 0} + along_direction(s);
}

Flops mamba2(const nn::Mamba2Shape& s) {
  const double heads = size(s.heads()), states = size(s.d_state), channels = size(s.inner());
  const double chunk = kSsdChunk * (heads * states + channels) * 2, carried = 2 * 2 * channels * states;
  return {linear(s.dim, s.inner() + s.conv_dim() + s.heads()) + linear(s.inner(), s.dim),
          chunk + carried + 2 * size(s.conv_dim() * s.d_conv)};
}

Flops transformer(int64_t dim, int64_t intermediate, double visible) {
  return {4 * linear(dim, dim) + 2 * linear(dim, intermediate), 4 * size(dim) * visible};
}

Flops language_block(const LanguageModelConfig& c, double length) {
  switch (c.kind) {
    case LanguageKind::kMamba:
      return mamba({c.hidden_size, c.d_state, c.d_conv, c.expand, c.dt_rank});
    case LanguageKind::kMamba2:
      return mamba2({.dim = c.hidden_size,
                     .d_state = c.d_state,
                     .d_conv = c.d_conv,
                     .expand = c.expand,
                     .head_dim = c.mamba2.head_dim,
                     .num_groups = c.mamba2.num_groups,
                     .dt_max = {}});
    case LanguageKind::kGptNeox:
      return transformer(c.hidden_size, c.gpt_neox.intermediate_size, length / 2);  // causal
  }
  return {};
}

// A patch, in the vision selective scan of this width.
Flops vss(const nn::VssConfig& c, int64_t width) {
  if (c.scan == nn::Scan::kNone) return {};
  const double directions = size(static_cast<int64_t>(ops::scan_directions(enum_name(c.scan)).size()));
  const nn::MambaShape shape{width, c.d_state, c.d_conv, c.expand, 0};
  const bool concat = c.merge == nn::Merge::kConcat;
  const double joins = concat ? directions * linear(width, width) : 0;
  const Flops in{linear(width, 2 * shape.inner()), 0}, out{linear(shape.inner(), width) + joins, 0};
  if (c.block == nn::Block::kMamba) {
    const Flops each{linear(shape.inner(), width), 0};
    return in + (along_direction(shape) + each) * directions + Flops{joins, 0};
  }
  constexpr double kTaps = 9;  // 3 x 3, once for all directions
  Flops scans = along_direction(shape) * directions;
  scans.rest += 2 * size(shape.inner()) * (kTaps - directions * size(c.d_conv));
  return in + scans + (concat ? Flops{linear(shape.inner(), width) * directions + joins, 0} : out);
}

Flops connector_patch(const ConnectorConfig& c, const VlMamba& model) {
  const int64_t from = model.vision_encoder->feature_dim(), to = model.language_model->hidden_size();
  const Flops mlp{linear(from, to) + linear(to, to), 0};
  if (c.kind == "mlp") return mlp;
  if (c.kind == "vss_mlp") return vss(c.vss, from) + mlp;
  if (c.kind == "vss_l2") {
    const int64_t width = c.vss.width != 0 ? c.vss.width : to;
    return Flops{linear(from, width) + linear(width, to), 0} + vss(c.vss, width);
  }
  Flops own;
  for (const auto& parameter : model.connector->parameters())
    if (parameter.dim() == 2) own.products += 2 * size(parameter.numel());
  return own;
}

}  // namespace

ForwardFlops forward_flops(const ModelConfig& config, const VlMamba& model, double length) {
  const auto& vision = config.vision_encoder;
  const double patches = size(model.vision_encoder->num_patches());
  ForwardFlops flops;
  flops.encoder = (transformer(vision.hidden_size, vision.intermediate_size, patches) * size(vision.used_layers()) +
                   Flops{linear(3 * vision.patch_size * vision.patch_size, vision.hidden_size), 0}) *
                  patches;
  flops.connector = connector_patch(config.connector, model) * patches;
  flops.block = language_block(config.language_model, length);
  flops.blocks = size(config.language_model.num_layers);
  flops.head = linear(config.language_model.hidden_size, config.language_model.embedding_rows());
  return flops;
}

}  // namespace vlmamba
