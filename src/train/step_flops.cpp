#include "vlmamba/train/step_flops.h"

#include <ATen/ATen.h>

namespace vlmamba {
namespace {

// A part's matrices: those that were there, which of them train, and those that LoRA added.
struct Matrices {
  double all = 0, training = 0, lora = 0;
  double share() const { return all > 0 ? training / all : 0; }
};

// `head`: the language model's, which is counted by targets.
Matrices matrices_of(const torch::nn::Module& part, const at::Tensor& head) {
  Matrices count;
  for (const auto& parameter : part.named_parameters()) {
    const auto& value = parameter.value();
    if (value.dim() < 2 || value.is_same(head)) continue;
    const auto size = static_cast<double>(value.numel());
    if (parameter.key().ends_with("lora_A") || parameter.key().ends_with("lora_B")) {
      count.lora += size;
      continue;
    }
    count.all += size;
    if (value.requires_grad()) count.training += size;
  }
  return count;
}

// A part's forward and backward pass. `behind`: does something in front of it train?
double both_ways(const Flops& forward, const Matrices& part, bool behind) {
  const bool trains = part.training > 0 || part.lora > 0;
  const double back = behind || part.lora > 0 ? 1 : trains ? part.share() : 0;
  const double lora = part.all > 0 ? 3 * forward.products * part.lora / part.all : 0;
  return forward.products * (1 + back + part.share()) + forward.rest * (1 + 2 * back) + lora;
}

}  // namespace

double step_flops(const ForwardFlops& forward, const VlMamba& model, const StepSize& size) {
  const at::Tensor head_weight = model.language_model->head_weight();
  const Matrices encoder = matrices_of(*model.vision_encoder, head_weight),
                 connector = matrices_of(*model.connector, head_weight),
                 language = matrices_of(*model.language_model, head_weight);
  const bool from_encoder = encoder.training > 0 || encoder.lora > 0;
  const bool from_connector = from_encoder || connector.training > 0 || connector.lora > 0;
  const bool embedding = head_weight.requires_grad();
  const bool back = from_connector || embedding;
  const double head = forward.head * size.targets * (2 + (embedding ? 1 : 0));
  return both_ways(forward.encoder * size.pictures, encoder, false) +
         both_ways(forward.connector * size.pictures, connector, from_encoder) +
         both_ways(forward.block * (forward.blocks * size.positions), language, back) + head;
}

}  // namespace vlmamba
