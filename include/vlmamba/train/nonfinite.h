#pragma once

#include <functional>
#include <string>

#include "vlmamba/data/loader.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/model/vl_mamba.h"

namespace vlmamba {

/// A step whose loss or gradients are not finite, before anything was changed.
struct NonFiniteStep {
  std::string stage;
  int64_t step;
  uint64_t seed;
  std::string what;  ///< "loss", "norm of the gradients"
  double value;
  std::string first;            ///< what first_non_finite says
  int64_t rank = 0, world = 1;  ///< whose micro-batches these are
};

/// The first tensor that is not finite, in forward order, of the step's micro-batches: an output, for which `forward`
/// repeats the pass of one as it was trained, else a gradient as it is now. For people; empty where all are finite.
std::string first_non_finite(const VlMamba& model, const StepBatches& batches,
                             const std::function<void(const Batch&)>& forward);

/// A gradient, in the order of the parameters; empty where all are finite.
std::string first_non_finite_gradient(const torch::nn::Module& model);

/// Writes the step to `folder` for `vlmamba replay`: `checkpoint` (weights, moments, state, config before the step)
/// with batches.safetensors and nonfinite.json. Throws Error (kIo).
void write_nonfinite_step(const std::string& folder, io::CheckpointContent checkpoint, const NonFiniteStep& step,
                          const StepBatches& batches);

/// Reads what write_nonfinite_step wrote. Throws Error (weights).
struct StoredStep {
  NonFiniteStep step;
  StepBatches batches;
};
StoredStep read_nonfinite_step(const std::string& folder);

}  // namespace vlmamba
