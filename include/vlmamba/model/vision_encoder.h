#pragma once

#include <torch/nn/module.h>

#include <array>
#include <memory>
#include <string>

#include "vlmamba/core/fields.h"

namespace vlmamba {

enum class VisionKind { kClip, kSiglip };
constexpr auto enum_names(VisionKind) {
  return std::array{EnumName<VisionKind>{VisionKind::kClip, "clip"},
                    EnumName<VisionKind>{VisionKind::kSiglip, "siglip"}};
}

/// A Vision Transformer as CLIP or SigLIP build it. The defaults are google/siglip-so400m-patch14-384.
struct VisionEncoderConfig {
  VisionKind kind = VisionKind::kSiglip;
  int64_t image_size = 384;
  int64_t patch_size = 14;
  int64_t hidden_size = 1152;
  int64_t intermediate_size = 4304;
  int64_t num_layers = 27;
  int64_t num_heads = 16;
  int64_t feature_layer = -2;
  std::string pretrained;

  template <typename F>
  void visit(F& f) {
    f("kind", kind, "clip: class token, pre-norm, quick GELU; siglip: none of these, tanh GELU");
    f("image_size", image_size, "pixels per side", Range{1});
    f("patch_size", patch_size, "pixels per side of a patch", Range{1});
    f("hidden_size", hidden_size, "channels", Range{1});
    f("intermediate_size", intermediate_size, "channels inside the MLP", Range{1});
    f("num_layers", num_layers, "blocks", Range{1});
    f("num_heads", num_heads, "attention heads", Range{1});
    f("feature_layer", feature_layer, "index into HF's hidden_states whose patches are the features");
    f("pretrained", pretrained, "safetensors file of weights; empty: fresh weights");
  }
};

/// Pictures to patch features of the configured layer; blocks behind it are not run.
class VisionEncoder : public torch::nn::Module {
 public:
  /// pixel_values [I,3,S,S], normalised -> features [I,P,Dv], patches only, row by row.
  virtual at::Tensor forward(const at::Tensor& pixel_values) = 0;

  virtual int64_t grid_height() const = 0;
  virtual int64_t grid_width() const = 0;
  virtual int64_t feature_dim() const = 0;
  int64_t num_patches() const { return grid_height() * grid_width(); }
};

/// With fresh weights from the default generator. Throws Error (usage) for sizes that do not fit.
std::shared_ptr<VisionEncoder> make_vision_encoder(const VisionEncoderConfig& config);

}  // namespace vlmamba
