#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/data/prompt.h"
#include "vlmamba/data/records.h"
#include "vlmamba/data/sample_policy.h"
#include "vlmamba/data/sampler.h"
#include "vlmamba/train/profile.h"
#include "vlmamba/train/trainable_config.h"

namespace vlmamba {

/// No stage that ends takes longer; the products of steps, records and epochs stay far below 2^63.
constexpr double kMostSteps = 1e9, kMostRecords = 1e7;

/// What one part of the model does otherwise than the stage.
struct PartOptimizerConfig {
  std::optional<double> lr, weight_decay;

  template <typename F>
  void visit(F& f) {
    f("lr", lr, "peak learning rate of this part", Range{0});
    f("weight_decay", weight_decay, "weight decay of this part", Range{0});
  }
};

/// AdamW. The defaults are LLaVA-1.5's first stage.
struct OptimizerConfig {
  double lr = 1e-3;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double clip = 1.0;
  bool sharded = false;
  std::map<std::string, PartOptimizerConfig> parts;

  template <typename F>
  void visit(F& f) {
    f("lr", lr, "peak learning rate", Range{0});
    f("weight_decay", weight_decay, "decay per step and learning rate; never of norms, biases, A_log, D, dt_proj.bias",
      Range{0});
    f("beta1", beta1, "decay of the mean of the gradients", Range{0, 1, Bound::kExcluded});
    f("beta2", beta2, "decay of the mean of their squares", Range{0, 1, Bound::kExcluded});
    f("eps", eps, "added to the root of that mean", Range{0});
    f("clip", clip, "largest norm of all gradients together; 0: any", Range{0});
    f("sharded", sharded, "each process keeps the moments of a share of the parameters alone (ZeRO-1); same result");
    f("parts", parts, "by part (vision_encoder, connector, language_model): what differs there");
  }
};

enum class ScheduleKind { kCosine, kLinear, kConstant };
constexpr auto enum_names(ScheduleKind) {
  return std::array{EnumName<ScheduleKind>{ScheduleKind::kCosine, "cosine"},
                    EnumName<ScheduleKind>{ScheduleKind::kLinear, "linear"},
                    EnumName<ScheduleKind>{ScheduleKind::kConstant, "constant"}};
}

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kCosine;
  double warmup_ratio = 0.03;
  int64_t warmup_steps = 0;

  template <typename F>
  void visit(F& f) {
    f("kind", kind, "how the learning rate moves after the warm-up: to 0 (cosine, linear), or not at all");
    f("warmup_ratio", warmup_ratio, "share of all steps in which it rises linearly from 0", Range{0, 1});
    f("warmup_steps", warmup_steps, "the same in steps; 0: by warmup_ratio", Range{0});
  }
};

struct BatchConfig {
  int64_t global_batch = 256;
  int64_t micro_batch = 16;
  int64_t max_length = 2048;
  int64_t loader_threads = 2;
  GroupBy group_by = GroupBy::kNone;
  bool packing = false;

  template <typename F>
  void visit(F& f) {
    f("global_batch", global_batch, "records of an optimizer step", Range{1, kMostRecords});
    f("micro_batch", micro_batch, "records of a forward pass; divides global_batch, accumulation is derived",
      Range{1, kMostRecords});
    f("max_length", max_length, "positions of an example, pictures included; longer ones are cut", Range{2, 1 << 24});
    f("loader_threads", loader_threads, "threads that read records ahead; 0: none", Range{0, 256});
    f("group_by", group_by,
      "what a step's records share: nothing, similar lengths in micro-batches, or also all with or all without a "
      "picture");
    f("packing", packing,
      "several records of a micro-batch in one row of at most max_length positions: the same loss, less padding");
  }
};

struct DataConfig {
  std::vector<RecordSetConfig> sets;
  int64_t validation_records = 0;
  SamplePolicy policy;

  template <typename F>
  void visit(F& f) {
    f("sets", sets, "record files; all their records are mixed");
    f("validation_records", validation_records,
      "records of each set that are never trained on, for the validation loss", Range{0});
    policy.visit(f);
  }
};

enum class KeepBest { kNone, kValidationLoss };
constexpr auto enum_names(KeepBest) {
  return std::array{EnumName<KeepBest>{KeepBest::kNone, "none"},
                    EnumName<KeepBest>{KeepBest::kValidationLoss, "validation_loss"}};
}

struct CheckpointConfig {
  int64_t every = 0;
  int64_t keep_last = 2;
  KeepBest keep_best = KeepBest::kNone;

  template <typename F>
  void visit(F& f) {
    f("every", every, "steps between checkpoints; 0: only at the end of the stage", Range{0});
    f("keep_last", keep_last, "newest checkpoints of the stage that are kept; 0: all", Range{0});
    f("keep_best", keep_best, "keeps the one of the least validation loss too, which is then taken at each checkpoint");
  }
};

/// When a loss is told as standing out.
struct LossSpikeConfig {
  int64_t window = 128;
  double deviations = 6;

  template <typename F>
  void visit(F& f) {
    f("window", window, "losses that the next one is compared with", Range{2, 1e6});
    f("deviations", deviations, "standard deviations above their mean that are logged; 0: none", Range{0});
  }
};

/// Weights that a stage starts from, other than those of the stage before.
struct InitFromConfig {
  std::string checkpoint;
  std::vector<std::string> parts;
  std::map<std::string, std::string> names;
  std::vector<std::string> fresh;

  template <typename F>
  void visit(F& f) {
    f("checkpoint", checkpoint, "a run (its newest checkpoint), a step folder, or a file of weights");
    f("parts", parts, "what is taken: vision_encoder, connector, language_model; empty: all. Others stay as they are");
    f("names", names, "how names in a file begin, and how they begin here: {\"model.mm_projector.\": \"connector.\"}");
    f("fresh", fresh, "beginnings of the names that may be missing there, and keep fresh values");
  }
};

enum class Precision { kFloat32, kBfloat16 };
constexpr auto enum_names(Precision) {
  return std::array{EnumName<Precision>{Precision::kFloat32, "float32"},
                    EnumName<Precision>{Precision::kBfloat16, "bfloat16"}};
}

/// One stage of a run: who trains, on what, how. Length: steps, or else epochs.
struct StageConfig {
  std::string name;
  Trainable trainable;
  int64_t steps = 0;
  double epochs = 1;
  std::optional<InitFromConfig> init_from;
  std::optional<PromptTemplate> prompt_template;
  std::optional<bool> learn_prompts;
  DataConfig data;
  BatchConfig batch;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  CheckpointConfig checkpoint;
  LossSpikeConfig loss_spike;
  Precision precision = Precision::kFloat32;
  Precision frozen_dtype = Precision::kFloat32;
  int64_t recompute_every = 0;
  int64_t validate_every = 0;
  int64_t log_every = 1;
  double peak_tflops = 0;
  ProfileConfig profile;

  template <typename F>
  void visit(F& f) {
    f("name", name, "names the stage's folder in the run, and the stage in --set and --stage");
    f("trainable", trainable,
      "parts that train: vision_encoder, connector, language_model; or by part \"all\" or what follows; others are "
      "frozen");
    f("steps", steps, "optimizer steps; 0: by epochs", Range{0, kMostSteps});
    f("epochs", epochs, "passes over the records, where steps is 0", Range{0, 1e5});
    f("init_from", init_from, "weights to start from where they are not those of the stage before; null: those");
    f("prompt_template", prompt_template, "template of this stage where it is not prompt.template: plain, v1, v1_neox");
    f("learn_prompts", learn_prompts, "of this stage where it is not prompt.learn_prompts");
    f("data", data, "what is trained on");
    f("batch", batch, "sizes");
    f("optimizer", optimizer, "AdamW");
    f("schedule", schedule, "learning rate over the steps");
    f("checkpoint", checkpoint, "when, and how many are kept");
    f("loss_spike", loss_spike, "which losses the log names, with the step and its samples");
    f("precision", precision,
      "bfloat16: matrix products in bfloat16 (autocast); weights that train, scan states, norms and the loss stay "
      "fp32");
    f("frozen_dtype", frozen_dtype,
      "how the matrices that do not train lie in memory; bfloat16 needs precision bfloat16; checkpoints hold them "
      "whole");
    f("recompute_every", recompute_every,
      "the activations of every so many blocks are computed again in the backward pass; 1: of all, connector and "
      "logits too; 0: of none",
      Range{0});
    f("validate_every", validate_every, "steps between validation losses; 0: none", Range{0});
    f("log_every", log_every, "steps between lines of metrics.jsonl and timing.jsonl", Range{1});
    f("peak_tflops", peak_tflops,
      "TFLOPS of one device in the stage's precision, which mfu is a share of; 0: known GPUs' in bfloat16", Range{0});
    f("profile", profile, "a trace of some steps");
  }
};

/// Optimizer steps of a stage whose epochs have this many records. An unfinished last batch is filled from the next
/// epoch.
int64_t planned_steps(const StageConfig& stage, int64_t num_records);

}  // namespace vlmamba
