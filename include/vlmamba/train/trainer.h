#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "vlmamba/dist/comm.h"
#include "vlmamba/dist/dist_config.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/mixed_precision.h"
#include "vlmamba/train/optimizer.h"
#include "vlmamba/train/stage.h"
#include "vlmamba/train/stage_checkpoints.h"
#include "vlmamba/train/stage_data.h"
#include "vlmamba/train/step_timing.h"

namespace vlmamba {

enum class StageEnd { kFinished, kStopped };

/// Trains one stage of a model: frozen parts, accumulated token-exact loss, clipping, AdamW, schedule, logs,
/// checkpoints.
class Trainer {
 public:
  struct Setup {
    StageConfig stage;
    uint64_t seed = 0;
    uint32_t stage_index = 0;  ///< tells the stages' sample orders apart
    std::string folder;        ///< RUN/STAGE
    /// What every checkpoint holds beside weights, optimizer and state: config, tokenizer, processor.
    std::map<std::string, std::string> companions;
    std::function<bool()> stop_requested = [] { return false; };
    std::shared_ptr<Comm> comm = alone();  ///< with the other processes that train this stage
    DistConfig distributed{};
    ForwardFlops flops = {};  ///< of the model, for timing.jsonl
  };

  /// Freezes and groups the model's parameters. Throws Error (usage) for sizes that do not fit. model and data must
  /// outlive the trainer.
  Trainer(VlMamba& model, const StageData& data, Setup setup);

  /// Reads a checkpoint of this stage: weights, moments, state.
  void restore(int64_t step);

  /// A table of what trains: parts, groups, parameters, steps. For the user.
  std::string summary() const;

  /// Trains up to the last step, where a checkpoint is written, or until a stop is requested of any rank, where one is
  /// too. Throws Error (non-finite), on all ranks alike, before a step that would destroy the weights. Rank 0 alone
  /// writes.
  StageEnd run();

  const TrainState& state() const { return state_; }
  int64_t total_steps() const { return total_steps_; }

 private:
  struct StepResult {
    double loss, grad_norm;
    int64_t num_tokens, num_images;
  };
  StepResult train_step(const struct StepBatches& batches, StepTiming& timing);
  VlMamba::Loss loss_of(const struct StepBatches& batches, size_t index);  // of a micro-batch
  io::Json metrics_line(const StepResult& result, double lr_factor) const;
  io::Json validate();
  StageEnd run_steps();
  bool stop_requested_anywhere() const;
  void compare_ranks(bool all_parameters) const;
  void save(class RunLog* run_log, bool must);
  void check_finite(double value, const std::string& what, const struct StepBatches& batches);

  VlMamba& model_;
  const StageData& data_;
  Setup setup_;
  int64_t total_steps_;
  Optimizer optimizer_;
  std::optional<FrozenWeights> frozen_;  // while it runs
  StageCheckpoints checkpoints_;
  TrainState state_;
};

}  // namespace vlmamba
