#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "vlmamba/dist/comm.h"

namespace vlmamba {

/// Compares tensors that must be the same on all ranks, bit by bit, by a 64-bit hash of each. Throws Error (peer lost)
/// on all ranks, with the first tensor that differs and the ranks that do not hold what most (or else rank 0) hold.
void compare_replicas(Comm& comm, const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                      const std::string& where);

/// The same for a text, e.g. a config.
void compare_replicas(Comm& comm, const std::string& name, const std::string& text, const std::string& where);

}  // namespace vlmamba
