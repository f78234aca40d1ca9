#pragma once

#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace vlmamba {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The bytes of a safetensors file of these tensors, brought to the CPU.
std::string tensors_to_safetensors(const NamedTensors& tensors);

/// Copies a safetensors file into `tensors`, cast to their types. Names and shapes must be exactly these: else Error
/// (weights) that lists all missing, unexpected and misshapen tensors, and nothing is changed.
void copy_from_safetensors(const NamedTensors& tensors, const std::string& path);

NamedTensors named_parameters(const torch::nn::Module& module);

/// copy_from_safetensors into the parameters of `module`.
void load_weights(torch::nn::Module& module, const std::string& path);

/// Writes all parameters as one safetensors file, as a whole or not at all.
void save_weights(const torch::nn::Module& module, const std::string& path);

}  // namespace vlmamba
