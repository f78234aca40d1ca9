#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

/// Bytes of a training step, by kind.
struct MemoryEstimate {
  int64_t weights = 0;      ///< trained ones in fp32, frozen matrices in frozen_dtype
  int64_t gradients = 0;    ///< fp32, of what trains
  int64_t optimizer = 0;    ///< AdamW's two moments, fp32
  int64_t activations = 0;  ///< the most that a micro-batch needs at once, beside these

  int64_t sum() const { return weights + gradients + optimizer + activations; }
};

/// What a stage needs in one process whose rows have `max_length` positions and one picture each, every position behind
/// it a target. `model` may lie on the meta device; its parameters require grad as in the stage.
///
/// Activations are not looked up in a table but measured: one and two blocks of the real sizes run forward and backward
/// on a few positions of the CPU, their tensors' bytes are counted, and both counts are taken on to all blocks and
/// positions, in which they are linear. Logits are added by formula. Not counted: workspaces inside kernels, and what
/// an allocator keeps.
MemoryEstimate estimate_memory(const ModelConfig& config, const VlMamba& model, const StageConfig& stage,
                               const std::map<std::string, ConnectorFactory>& extensions = {});

}  // namespace vlmamba
