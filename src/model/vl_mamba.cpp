#include "vlmamba/model/vl_mamba.h"

#include <ATen/ATen.h>

#include "vlmamba/core/error.h"
#include "vlmamba/model/pretrained.h"
#include "vlmamba/nn/autocast.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/nn/recompute.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr int64_t kChunk = 4096;  // target positions whose logits exist at a time

// Pinned tensors arrive while the GPU still computes.
Batch moved_to(const at::Device& device, const Batch& batch) {
  if (batch.input_ids.device() == device) return batch;
  const auto moved = [&](const Tensor& tensor) {
    return tensor.defined() ? tensor.to(device, tensor.scalar_type(), /*non_blocking=*/true) : tensor;
  };
  return {moved(batch.pixel_values), moved(batch.input_ids), moved(batch.labels), moved(batch.seq_idx),
          batch.sample_ids};
}

}  // namespace

VlMamba::VlMamba(std::shared_ptr<VisionEncoder> encoder, std::shared_ptr<Connector> join,
                 std::shared_ptr<LanguageModel> language)
    : vision_encoder(register_module("vision_encoder", std::move(encoder))),
      connector(register_module("connector", std::move(join))),
      language_model(register_module("language_model", std::move(language))) {}

at::Device VlMamba::device() const { return parameters().front().device(); }

void VlMamba::set_recompute(int64_t every) {
  recompute_every_ = vision_encoder->recompute_every = language_model->recompute_every = every;
}

Tensor VlMamba::connected(const Tensor& pixel_values) const {
  const auto join = [part = connector](const std::vector<Tensor>& in) { return std::vector{part->forward(in[0])}; };
  const std::vector<Tensor> features{vision_encoder->forward(pixel_values)};
  return nn::recomputes(recompute_every_, 0) ? nn::recompute(features, connector->parameters(), join)[0]
                                             : join(features)[0];
}

Tensor VlMamba::embed(const Batch& given) const {
  const Batch batch = moved_to(device(), given);
  const Tensor pictures = batch.input_ids.eq(kImageToken);
  Tensor text = language_model->embed(batch.input_ids.clamp_min(0));
  if (nn::Autocast::current(device().type()) != at::kFloat) text = text.to(at::kFloat);  // a frozen embedding's too
  const auto places = pictures.sum().item<int64_t>();
  const int64_t expected =
      batch.pixel_values.defined() ? batch.pixel_values.size(0) * vision_encoder->num_patches() : 0;
  if (places != expected)
    throw Error(ExitCode::kData, batch.sample_ids.empty() ? "batch" : "sample " + batch.sample_ids.front(),
                "expected " + std::to_string(expected) + " picture positions, got " + std::to_string(places));
  if (expected == 0) return text;
  return text.masked_scatter(pictures.unsqueeze(-1), embed_pictures(batch.pixel_values, text.scalar_type()));
}

Tensor VlMamba::embed_pictures(const Tensor& pixel_values, at::ScalarType type) const {
  return connected(pixel_values.to(type)).to(type);
}

Tensor VlMamba::logits(const Batch& given) const {
  const Batch batch = moved_to(device(), given);
  return language_model->head(language_model->forward(embed(batch), batch.seq_idx)).to(at::kFloat);
}

// rows [R,D], ids [R]: the sum of the cross-entropies, in fp32.
Tensor VlMamba::cross_entropy(const Tensor& rows, const Tensor& ids) const {
  const auto chunk = [part = language_model, ids](const std::vector<Tensor>& in) {
    const Tensor logits = part->head(in[0]).to(in[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    return std::vector{at::cross_entropy_loss(logits, ids, {}, at::Reduction::Sum)};
  };
  return recompute_every_ > 0 ? nn::recompute({rows}, {language_model->head_weight()}, chunk)[0] : chunk({rows})[0];
}

VlMamba::Loss VlMamba::loss(const Batch& given) const {
  const Batch batch = moved_to(device(), given);
  const Tensor hidden = language_model->forward(embed(batch), batch.seq_idx);
  const int64_t length = batch.labels.size(1);
  const Tensor labels = batch.labels.slice(1, 1).flatten();
  const Tensor targets = labels.ne(kIgnoreIndex).nonzero().squeeze(1);
  const Tensor rows = hidden.slice(1, 0, length - 1).flatten(0, 1).index_select(0, targets);
  const Tensor ids = labels.index_select(0, targets);
  Tensor sum = hidden.sum() * 0;  // in the graph even without a target
  for (int64_t first = 0; first < rows.size(0); first += kChunk)
    sum = sum + cross_entropy(rows.slice(0, first, first + kChunk), ids.slice(0, first, first + kChunk));
  return {sum, targets.size(0)};
}

std::shared_ptr<VlMamba> build_model(const ModelConfig& config, uint64_t seed,
                                     const std::map<std::string, ConnectorFactory>& extensions) try {
  at::manual_seed(seed);
  const auto encoder = make_vision_encoder(config.vision_encoder);
  const auto language = [&] {
    if (config.language_model.pretrained.empty()) return make_language_model(config.language_model);
    const nn::WithoutValues without_values(at::kFloat);  // billions of them would be drawn in vain
    return make_language_model(config.language_model);
  }();
  const auto connector = make_connector(
      config.connector,
      {encoder->feature_dim(), language->hidden_size(), encoder->grid_height(), encoder->grid_width()}, extensions);
  if (!config.vision_encoder.pretrained.empty()) load_pretrained(*encoder, config.vision_encoder);
  if (!config.connector.pretrained.empty()) load_pretrained(*connector, config.connector);
  if (!config.language_model.pretrained.empty()) load_pretrained(*language, config.language_model);
  return std::make_shared<VlMamba>(encoder, connector, language);
} catch (const c10::Error& error) {  // LibTorch's word for sizes beyond memory, or beyond 64 bits
  throw Error(ExitCode::kUsage, "model",
              "expected sizes that can be built, got: " + std::string(error.what_without_backtrace()));
}

}  // namespace vlmamba
