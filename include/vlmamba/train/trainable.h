#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <optional>
#include <string>

#include "vlmamba/io/weights/weight_files.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/train/trainable_config.h"

namespace vlmamba {

/// Makes the parameters that `trainable` names require grad, and no others; where it says so, adds LoRA, drawn from
/// `seed`. Throws Error (usage) for parts, blocks or layers that the model does not have.
void set_trainable(torch::nn::Module& model, const Trainable& trainable, uint64_t seed);

/// Adds LoRA's products into the weights they stand beside, and removes them.
void merge_lora(torch::nn::Module& model);

/// Do these files hold weights beside which LoRA was trained?
bool has_lora(const io::WeightFiles& files);

/// Reads weights that a stage of this `trainable` saved; its LoRA becomes part of them. Throws Error (weights).
void load_trained_weights(torch::nn::Module& model, const Trainable& trainable, const std::string& path,
                          const NameMap& map = {});

/// What LoRA's dropouts of a micro-batch follow from: its number in the step, over all processes.
uint64_t dropout_draw(uint64_t seed, uint32_t stage_index, int64_t step, int64_t micro_batch);

/// Has LoRA's dropouts in the next forward passes follow from `draw`; none: no dropout.
void set_dropout_draw(torch::nn::Module& model, std::optional<uint64_t> draw);

}  // namespace vlmamba
