#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/data/sample_policy.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/optimizer.h"

namespace vlmamba {

/// What a stage must remember beside weights and moments. Everything random follows from seed and step.
struct TrainState {
  int64_t step = 0, tokens = 0, images = 0;
  SampleCounts samples;
  std::optional<double> validation_loss;  ///< mean over the sets, where it was taken at this step
  std::vector<double> recent_losses;      ///< of the last steps, which the next is compared with (loss_spike.h)
};

/// The newest whole checkpoint among these, whose state is one of its step. Those passed over as damaged are named in
/// the log.
std::optional<int64_t> newest_whole(const io::CheckpointFolder& checkpoints);

/// The checkpoints of one stage: weights, moments, state, and what makes them usable alone. Frozen parameters lie once
/// in RUN/parts, a file for each part, and checkpoints refer to them.
class StageCheckpoints {
 public:
  /// In `folder`/checkpoints, where `folder` is RUN/STAGE. `companions`: files that every checkpoint holds as they are,
  /// by name: config, tokenizer.
  StageCheckpoints(const std::string& folder, std::string stage, int64_t total_steps,
                   std::map<std::string, std::string> companions);

  /// Writes a checkpoint, then removes those that `keep` does not keep. Returns its own bytes. Throws Error (kIo); all
  /// earlier checkpoints are then intact.
  uint64_t write(const VlMamba& model, const Optimizer& optimizer, const TrainState& state,
                 const CheckpointConfig& keep);

  /// What a checkpoint consists of. Writes the frozen parts where they are not there yet.
  io::CheckpointContent content(const VlMamba& model, const Optimizer& optimizer, const TrainState& state);

  /// Reads weights and moments in place. Throws Error (weights).
  TrainState read(int64_t step, VlMamba& model, Optimizer& optimizer) const;
  /// Sets aside what lies behind the step that training goes on from.
  void continue_from(int64_t step) const { folder_.continue_from(step); }

  /// The step of the least validation loss among the checkpoints that are there.
  std::optional<int64_t> best() const;

 private:
  io::SharedFile shared(const std::string& part, const io::Content& weights);

  io::CheckpointFolder folder_;
  io::SharedFiles parts_;
  std::string stage_;
  int64_t total_steps_;
  std::map<std::string, std::string> companions_;
  std::map<std::string, io::SharedFile> frozen_;  // by part, as soon as it was written
};

}  // namespace vlmamba
