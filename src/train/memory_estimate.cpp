#include "vlmamba/train/memory_estimate.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>

#include "vlmamba/nn/autocast.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/nn/recompute.h"
#include "vlmamba/train/memory_meter.h"
#include "vlmamba/train/mixed_precision.h"
#include "vlmamba/train/optimizer.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr int64_t kPositions = 16;      // of a trial; a second one has twice as many
constexpr int64_t kChunk = 4096;        // targets whose logits exist at a time (VlMamba::loss)
constexpr int64_t kSmallMap = 4;        // patches per side of a trial's picture
constexpr int64_t kChunkOfMamba2 = 64;  // positions of its scan, below which a trial says little

// What the forward pass leaves for the backward pass, and what both need at most, in bytes.
struct Bytes {
  double kept = 0, peak = 0;
};

// Bytes as a function of blocks and positions: a + b x + c y + d x y, through four trials.
struct Bilinear {
  double x1, x2, y1, y2;
  Bytes at11, at12, at21, at22;

  Bytes operator()(double x, double y) const {
    const double s = x2 > x1 ? (x - x1) / (x2 - x1) : 0, t = y2 > y1 ? (y - y1) / (y2 - y1) : 0;
    const auto through = [&](double Bytes::*of) {
      return (1 - s) * ((1 - t) * at11.*of + t * at12.*of) + s * ((1 - t) * at21.*of + t * at22.*of);
    };
    return {through(&Bytes::kept), through(&Bytes::peak)};
  }
};

// A part alone, named as in the model, so that `trainable` finds it.
struct Alone : torch::nn::Module {
  Alone(const std::string& name, std::shared_ptr<torch::nn::Module> part) { register_module(name, std::move(part)); }
};

Bytes trial(const StageConfig& stage, const std::string& name, const std::shared_ptr<torch::nn::Module>& part,
            int64_t blocks, const std::function<Tensor()>& forward) {
  Alone model(name, part);
  Trainable own;
  if (stage.trainable.contains(name)) {
    own.parts[name] = stage.trainable.parts.at(name);
    own.parts[name].last_blocks = std::min(own.parts[name].last_blocks, blocks);
    set_trainable(model, own, 0);
  } else {
    for (auto& parameter : model.parameters()) parameter.set_requires_grad(false);
  }
  for (auto& named : model.named_parameters()) {
    Tensor& parameter = named.value();
    if (parameter.requires_grad())
      parameter.mutable_grad() = at::zeros_like(parameter);  // counted elsewhere: not to be made by the backward pass
    else if (can_be_halved(named.key(), parameter))
      parameter.set_data(parameter.to(scalar_type(stage.frozen_dtype)));
  }
  set_dropout_draw(model, 0);
  MemoryMeter meter;
  const int64_t before = meter.now();
  Tensor y = [&] {
    const nn::Autocast autocast(at::kCPU, scalar_type(stage.precision));
    return forward();
  }();
  const auto kept = static_cast<double>(meter.now() - before);
  if (y.requires_grad()) torch::autograd::backward({y.sum()}, {});
  return {kept, static_cast<double>(meter.peak() - before)};
}

Bilinear language_bytes(const LanguageModelConfig& config, const StageConfig& stage, bool input_grad) {
  const int64_t every = std::max<int64_t>(1, stage.recompute_every);
  const int64_t few = std::min(every, config.num_layers), more = std::min(2 * every, config.num_layers);
  const int64_t positions = config.kind == LanguageKind::kMamba2 ? kChunkOfMamba2 : kPositions;
  const auto run = [&](int64_t blocks, int64_t rows) {
    LanguageModelConfig small = config;
    small.num_layers = blocks;
    small.vocab_size = small.pad_vocab_multiple = 1;  // embedding and logits are counted by formula
    const nn::WithoutValues without_values(at::kFloat);
    const auto part = make_language_model(small);
    part->recompute_every = stage.recompute_every;
    const Tensor embeds = at::zeros({rows, positions, config.hidden_size}).set_requires_grad(input_grad);
    return trial(stage, "language_model", part, blocks, [&] { return part->forward(embeds); });
  };
  const Bytes a = run(few, 1), b = run(few, 2);
  const Bytes c = more > few ? run(more, 1) : a, d = more > few ? run(more, 2) : b;
  return {static_cast<double>(few),
          static_cast<double>(more),
          static_cast<double>(positions),
          static_cast<double>(2 * positions),
          a,
          b,
          c,
          d};
}

Bytes connector_bytes(const ModelConfig& config, const VlMamba& model, const StageConfig& stage, bool input_grad,
                      const std::map<std::string, ConnectorFactory>& extensions) {
  const auto run = [&](int64_t pictures) {
    const nn::WithoutValues without_values(at::kFloat);
    const int64_t from = model.vision_encoder->feature_dim();
    const auto part =
        make_connector(config.connector, {from, model.language_model->hidden_size(), kSmallMap, kSmallMap}, extensions);
    const Tensor features =
        at::zeros({pictures, kSmallMap * kSmallMap, from}, scalar_type(stage.precision)).set_requires_grad(input_grad);
    return trial(stage, "connector", part, 0, [&] {
      const auto join = [part](const std::vector<Tensor>& in) { return std::vector{part->forward(in[0])}; };
      return nn::recomputes(stage.recompute_every, 0) ? nn::recompute({features}, part->parameters(), join)[0]
                                                      : join({features})[0];
    });
  };
  const Bytes one = run(1), two = run(2);
  const Bilinear line{0, 0, kSmallMap * kSmallMap, 2 * kSmallMap * kSmallMap, one, two, one, two};
  return line(0, static_cast<double>(stage.batch.micro_batch * model.vision_encoder->num_patches()));
}

Bytes encoder_bytes(const ModelConfig& config, const VlMamba& model, const StageConfig& stage) {
  const int64_t layers = config.vision_encoder.used_layers(), every = std::max<int64_t>(1, stage.recompute_every);
  const int64_t few = std::min(every, layers), more = std::min(2 * every, layers);
  const auto run = [&](int64_t blocks, int64_t pictures) {
    VisionEncoderConfig small = config.vision_encoder;
    small.num_layers = small.feature_layer = blocks;
    small.image_size = small.patch_size * kSmallMap;
    const nn::WithoutValues without_values(at::kFloat);
    const auto part = make_vision_encoder(small);
    part->recompute_every = stage.recompute_every;
    const Tensor pixels = at::zeros({pictures, 3, small.image_size, small.image_size});
    return trial(stage, "vision_encoder", part, blocks, [&] { return part->forward(pixels); });
  };
  const Bytes a = run(few, 1), b = run(few, 2);
  const Bytes c = more > few ? run(more, 1) : a, d = more > few ? run(more, 2) : b;
  const Bilinear plane{static_cast<double>(few),
                       static_cast<double>(more),
                       kSmallMap * kSmallMap,
                       2 * kSmallMap * kSmallMap,
                       a,
                       b,
                       c,
                       d};
  return plane(static_cast<double>(layers),
               static_cast<double>(stage.batch.micro_batch * model.vision_encoder->num_patches()));
}

// In fp32: log-probabilities, which are kept, and beside them two gradients, or before them the logits twice.
Bytes logit_bytes(const LanguageModelConfig& config, const StageConfig& stage, double targets) {
  const auto vocab = static_cast<double>(config.embedding_rows());
  const double row = 4 * vocab, at_once = std::min<double>(targets, kChunk);
  return stage.recompute_every > 0 ? Bytes{0, 3 * at_once * row} : Bytes{targets * row, 2 * at_once * row};
}

void count_parameters(const VlMamba& model, const StageConfig& stage, MemoryEstimate& estimate) {
  constexpr int64_t kFp32 = 4, kBf16 = 2;
  const bool halves = stage.frozen_dtype == Precision::kBfloat16;
  for (const auto& parameter : model.named_parameters()) {
    const int64_t count = parameter.value().numel();
    const bool trains = parameter.value().requires_grad();
    const bool half = halves && !trains && can_be_halved(parameter.key(), parameter.value());
    estimate.weights += count * (half ? kBf16 : kFp32);
    if (!trains) continue;
    estimate.gradients += count * kFp32;
    estimate.optimizer += count * 2 * kFp32;
  }
}

}  // namespace

MemoryEstimate estimate_memory(const ModelConfig& config, const VlMamba& model, const StageConfig& stage,
                               const std::map<std::string, ConnectorFactory>& extensions) {
  MemoryEstimate estimate;
  count_parameters(model, stage, estimate);
  const auto positions = static_cast<double>(stage.batch.micro_batch * stage.batch.max_length);
  const double pictures = static_cast<double>(stage.batch.micro_batch),
               patches = static_cast<double>(model.vision_encoder->num_patches());
  const bool encoder_trains = stage.trainable.contains("vision_encoder"),
             connector_back = encoder_trains || stage.trainable.contains("connector");
  const bool embedding_trains = model.language_model->head_weight().requires_grad();
  const Bytes encoder = encoder_bytes(config, model, stage),
              connector = connector_bytes(config, model, stage, encoder_trains, extensions),
              language = language_bytes(config.language_model, stage, connector_back || embedding_trains)(
                  static_cast<double>(config.language_model.num_layers), positions),
              logits = logit_bytes(config.language_model, stage, std::max(0.0, positions - pictures * patches));
  // The embeddings, alone and with the pictures in their places, stay beside all.
  const double embeds = 2 * positions * static_cast<double>(config.language_model.hidden_size) * 4;
  const double kept = encoder.kept + connector.kept + language.kept + embeds + logits.kept;
  const double working = std::max(
      {encoder.peak - encoder.kept, connector.peak - connector.kept, language.peak - language.kept, logits.peak});
  estimate.activations = static_cast<int64_t>(kept + working);
  return estimate;
}

}  // namespace vlmamba
