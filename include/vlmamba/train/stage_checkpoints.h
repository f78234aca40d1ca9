#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "vlmamba/data/sample_policy.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {

/// What a stage must remember beside weights and moments. Everything random follows from seed and step.
struct TrainState {
  int64_t step = 0, tokens = 0, images = 0;
  SampleCounts samples;
};

/// The checkpoints of one stage: weights, moments, state, and what makes them usable alone.
class StageCheckpoints {
 public:
  /// In `folder`/checkpoints. `companions`: files that every checkpoint holds as they are, by name: config, tokenizer.
  StageCheckpoints(const std::string& folder, std::string stage, int64_t total_steps,
                   std::map<std::string, std::string> companions)
      : folder_(folder + "/checkpoints"),
        stage_(std::move(stage)),
        total_steps_(total_steps),
        companions_(std::move(companions)) {}

  /// Removes all but the newest `keep_last` (0: keeps all). Throws Error (kIo); all earlier checkpoints are then
  /// intact.
  void write(const VlMamba& model, const Optimizer& optimizer, const TrainState& state, int64_t keep_last) const;

  /// Reads weights and moments in place. Throws Error (weights).
  TrainState read(int64_t step, VlMamba& model, Optimizer& optimizer) const;

 private:
  io::CheckpointFolder folder_;
  std::string stage_;
  int64_t total_steps_;
  std::map<std::string, std::string> companions_;
};

}  // namespace vlmamba
