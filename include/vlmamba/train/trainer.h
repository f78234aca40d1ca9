#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vlmamba/data/example.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/optimizer.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

/// A stage's records, read and split.
struct StageData {
  ExampleReader reader;
  std::vector<Record> training;
  std::vector<std::vector<Record>> validation;  ///< by set
  std::vector<std::string> set_names;
};

/// Reads the sets of a stage and holds back validation_records of each, chosen by `seed`. `reader.image_roots` must
/// follow the sets. Throws Error (data).
StageData read_stage_data(const DataConfig& config, ExampleReader reader, uint64_t seed);

/// What a stage must remember beside weights and moments. Everything random follows from seed and step.
struct TrainState {
  int64_t step = 0, tokens = 0, images = 0;
};

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
  };

  /// Freezes and groups the model's parameters. Throws Error (usage) for sizes that do not fit. model and data must
  /// outlive the trainer.
  Trainer(VlMamba& model, const StageData& data, Setup setup);

  /// Reads a checkpoint of this stage: weights, moments, state.
  void restore(int64_t step);

  /// A table of what trains: parts, groups, parameters, steps. For the user.
  std::string summary() const;

  /// Trains up to the last step, where a checkpoint is written, or until a stop is requested, where one is too. Throws
  /// Error (non-finite) before a step that would destroy the weights.
  StageEnd run();

  const TrainState& state() const { return state_; }
  int64_t total_steps() const { return total_steps_; }

 private:
  struct StepResult {
    double loss, grad_norm;
    int64_t num_tokens, num_images;
  };
  StepResult train_step(const struct StepBatches& batches);
  void check_finite(double value, const std::string& what, const struct StepBatches& batches) const;
  std::map<std::string, double> validate() const;
  void write_checkpoint() const;

  VlMamba& model_;
  const StageData& data_;
  Setup setup_;
  int64_t total_steps_;
  Optimizer optimizer_;
  io::CheckpointFolder checkpoints_;
  TrainState state_;
};

}  // namespace vlmamba
