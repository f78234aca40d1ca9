#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba::io {

/// Told of each part [begin, end) of a file that was read and is not needed for now.
using PartDone = std::function<void(uint64_t begin, uint64_t end)>;

/// Reads a file of torch.save (zip of a pickle and storages) that lies in memory: a dict of tensors, or dicts of them,
/// whose names are joined by dots. Parameters are their tensors, storages may be shared, strides are kept. With a
/// `prefix` only tensors whose names begin with it count, and lose it; what else the file holds may then be anything.
/// Nothing is ever called: pickle.h and zip.h say what is accepted. CRCs are compared, so every byte is read once.
/// Throws Error (weights).
WeightTable parse_torch_file(std::string_view bytes, const std::string& where, std::string_view prefix = {},
                             const PartDone& done = {});

/// Where a storage lies in its file.
struct TorchStorage {
  std::string key;
  uint64_t begin = 0, end = 0;
};

/// The tensors that a pickle describes; together at most twice `file_size` bytes. Throws Error (weights).
WeightTable read_torch_tensors(std::string_view pickle, const std::vector<TorchStorage>& storages, uint64_t file_size,
                               const std::string& where, std::string_view prefix = {});

/// Whether a file begins as torch.save's do, today or before 1.6 (which parse_torch_file refuses with a hint).
bool looks_like_torch_file(std::string_view bytes);

}  // namespace vlmamba::io
