#pragma once

#include <string>
#include <vector>

#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba::io {

/// The bytes of a file as torch.save writes a dict of tensors (a zip of a pickle and storages), for programs that read
/// nothing else. Tensors with the same data share a storage. Throws Error (weights) for dtypes that it has no name for.
std::string to_torch_file(const std::vector<TensorView>& tensors);

}  // namespace vlmamba::io
