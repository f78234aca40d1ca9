#pragma once

#include <torch/nn/module.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "vlmamba/core/fields.h"
#include "vlmamba/nn/activation.h"

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
  std::optional<nn::Activation> activation;
  std::optional<double> norm_eps;
  std::string pretrained;

  nn::Activation used_activation() const {
    return activation.value_or(kind == VisionKind::kClip ? nn::Activation::kQuickGelu : nn::Activation::kGeluTanh);
  }
  double used_eps() const { return norm_eps.value_or(kind == VisionKind::kClip ? 1e-5 : 1e-6); }
  /// How many blocks run, and are built: those in front of the features. Throws Error (usage).
  int64_t used_layers() const;

  template <typename F>
  void visit(F& f) {
    f("kind", kind, "clip: class token, pre-norm, quick GELU; siglip: none of these, tanh GELU");
    f("image_size", image_size, "pixels per side", Range{1, kMostPixels});
    f("patch_size", patch_size, "pixels per side of a patch", Range{1, kMostPixels});
    f("hidden_size", hidden_size, "channels", Range{1, kMostChannels});
    f("intermediate_size", intermediate_size, "channels inside the MLP", Range{1, kMostChannels});
    f("num_layers", num_layers, "blocks", Range{1, kMostLayers});
    f("num_heads", num_heads, "attention heads", Range{1, kMostChannels});
    f("feature_layer", feature_layer, "index into HF's hidden_states whose patches are the features");
    f("activation", activation, "inside the MLP; null: quick_gelu for clip, gelu_pytorch_tanh for siglip");
    f("norm_eps", norm_eps, "added to the variance in LayerNorm; null: 1e-5 for clip, 1e-6 for siglip", Range{0});
    f("pretrained", pretrained, "weights: a file, or a folder of Hugging Face; empty: fresh weights");
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

  int64_t recompute_every = 0;  ///< every so many blocks, `forward` computes a block again (nn/recompute.h)
};

/// With fresh weights from the default generator. Throws Error (usage) for sizes that do not fit.
std::shared_ptr<VisionEncoder> make_vision_encoder(const VisionEncoderConfig& config);

}  // namespace vlmamba
