#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/app/extensions.h"
#include "vlmamba/app/run_config.h"
#include "vlmamba/infer/responder.h"
#include "vlmamba/io/weights/weight_files.h"
#include "vlmamba/train/trainer.h"

/// Where a config becomes objects: the one place that knows all rooms.
namespace vlmamba::app {

/// The config's tokenizer. Throws Error (weights) if it knows more ids than the language model.
Tokenizer load_tokenizer(const RunConfig& config);

/// Puts the model where the config says, on a machine of several GPUs on that of this rank. Throws Error (usage) where
/// there is none.
void place_model(VlMamba& model, DeviceChoice device, int64_t local_rank = 0);

/// What turns the records of a stage into examples.
ExampleReader stage_example_reader(const RunConfig& config, const StageConfig& stage, const Tokenizer& tokenizer,
                                   int64_t tokens_per_image);

/// That and the records. `index_folder` keeps their indices; empty: they are not kept.
StageData load_stage_data(const RunConfig& config, const StageConfig& stage, const Tokenizer& tokenizer,
                          int64_t tokens_per_image, const std::string& index_folder);

/// What lies beside the weights of every checkpoint, so that it can be used alone.
std::map<std::string, std::string> checkpoint_companions(const RunConfig& config, const Tokenizer& tokenizer);

/// Where a checkpoint of this program lies.
struct CheckpointPlace {
  std::string folder;      ///< the step folder
  std::string run_folder;  ///< of the run it belongs to; the step folder where it stands alone
  std::string stage;
  int64_t step = 0;
};

/// Finds the checkpoint that a path means: a step folder, or a run, whose last stage's newest whole one is taken; and
/// verifies it, what it refers to too. Throws Error (weights).
CheckpointPlace find_checkpoint(const std::string& path);

/// A model with all that is needed to ask it.
struct LoadedModel {
  CheckpointPlace place;
  RunConfig config;
  Tokenizer tokenizer;
  std::shared_ptr<VlMamba> model;

  /// `memory` bounds what is remembered of pictures and beginnings of prompts, in bytes.
  Responder responder(const SamplingConfig& sampling, uint64_t seed, int64_t memory = PrefixCache::kDefaultBytes) const;
};

/// How a model is loaded where it is only asked.
struct LoadOptions {
  at::ScalarType type = at::kFloat;      ///< of the parameters; those that must keep fp32 do
  std::optional<int64_t> feature_layer;  ///< instead of the config's
  bool padded_logits = false;            ///< logits of the embedding's padded rows too, instead of -inf
  bool keep_lora = false;                ///< beside the weights, as it was trained, instead of in them
};

/// Rebuilds model, tokenizer, prompt and processor from a checkpoint alone; `overrides` as of --set.
LoadedModel load_checkpoint(const std::string& path, const Extensions& extensions,
                            const std::vector<std::string>& overrides = {}, const LoadOptions& options = {});

/// Throws Error (weights) where the weights and the tokenizer of a stage's checkpoint are not those of its config: what
/// load_checkpoint checks before it takes memory.
void check_checkpoint(const RunConfig& config, const std::string& stage, const Tokenizer& tokenizer,
                      const io::WeightFiles& files, const Extensions& extensions);

/// A model of another library: an encoder or a language model, by what its folder says.
struct ForeignModel {
  std::string description;
  std::shared_ptr<VisionEncoder> vision_encoder;
  VisionEncoderConfig vision_config;
  std::shared_ptr<LanguageModel> language_model;
  LanguageModelConfig language_config;
  std::vector<int64_t> end_tokens;
  std::optional<Tokenizer> tokenizer;
};

/// Loads a folder of Hugging Face or of mamba_ssm; none where the folder is not one. Throws Error (weights).
std::optional<ForeignModel> load_foreign(const std::string& folder, const LoadOptions& options = {});

/// The checks of load_foreign alone, before memory is taken: gives the files of the weights.
std::optional<io::WeightFiles> check_foreign(const std::string& folder);

/// Says why a model's output is not finite, as far as its weights tell: ends a message.
std::string cause_of_non_finite(const std::string& checkpoint);

}  // namespace vlmamba::app
