#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vlmamba/io/file_writer.h"
#include "vlmamba/io/weights/weight_files.h"

namespace vlmamba {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// A safetensors file of these tensors, which are brought to the CPU one at a time while it is written.
io::Content safetensors_content(const NamedTensors& tensors);
/// The same, all in memory.
std::string tensors_to_safetensors(const NamedTensors& tensors);

/// What a tensor of a file is called here; none for one that is known and not needed. Names that it does not know it
/// gives back as they are, and they count as unexpected.
using NameMap = std::function<std::optional<std::string>(const std::string& name)>;

/// Copies the tensors of a checkpoint into `tensors`, cast to their types, on their devices. Names, after `map`, and
/// shapes must be exactly these: else Error (weights) that lists all missing, unexpected and misshapen tensors with the
/// nearest names, and nothing is changed. Each tensor is copied once, and what was read is given back as it goes.
void copy_weights(const NamedTensors& tensors, const io::WeightFiles& files, const NameMap& map = {});

/// The checks of copy_weights alone, which also hold for tensors on the meta device.
void check_weights(const NamedTensors& tensors, const std::vector<io::TensorInfo>& stored, const std::string& where,
                   const NameMap& map = {});
void check_weights(const NamedTensors& tensors, const io::WeightFiles& files, const NameMap& map = {});

/// A tensor of a file, in its type there. Throws Error (weights) for types that LibTorch lacks.
at::Tensor read_tensor(const io::WeightFiles::Tensor& tensor);

/// The first tensor of a file that holds NaN or infinity; empty where none does.
std::string first_non_finite(const io::WeightFiles& files);

NamedTensors named_parameters(const torch::nn::Module& module);

/// copy_weights from a file or a folder of weights into the parameters of `module`.
void load_weights(torch::nn::Module& module, const std::string& path, const NameMap& map = {});

/// Writes all parameters as one safetensors file, as a whole or not at all.
void save_weights(const torch::nn::Module& module, const std::string& path);

}  // namespace vlmamba
