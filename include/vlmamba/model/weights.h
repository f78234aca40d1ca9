#pragma once

#include <torch/nn/module.h>

#include <string>

namespace vlmamba {

/// Copies a safetensors file into the parameters of `module`, cast to their types. Names and shapes must be exactly the
/// module's: else Error (weights) that lists all missing, unexpected and misshapen tensors, and nothing is changed.
void load_weights(torch::nn::Module& module, const std::string& path);

/// Writes all parameters as one safetensors file, as a whole or not at all.
void save_weights(const torch::nn::Module& module, const std::string& path);

}  // namespace vlmamba
