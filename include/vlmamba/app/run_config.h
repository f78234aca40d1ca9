#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/data/image_processor.h"
#include "vlmamba/data/prompt.h"
#include "vlmamba/dist/dist_config.h"
#include "vlmamba/eval/eval_config.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

enum class DeviceChoice { kAuto, kCpu, kCuda };
constexpr auto enum_names(DeviceChoice) {
  return std::array{EnumName<DeviceChoice>{DeviceChoice::kAuto, "auto"},
                    EnumName<DeviceChoice>{DeviceChoice::kCpu, "cpu"},
                    EnumName<DeviceChoice>{DeviceChoice::kCuda, "cuda"}};
}

/// One whole run: a model's history from its parts to its evaluation.
struct RunConfig {
  int64_t seed = 1;
  std::string output_dir;
  std::string data_root;
  std::string weights_root;
  std::string tokenizer;
  DeviceChoice device = DeviceChoice::kAuto;
  DistConfig distributed;
  ModelConfig model;
  ImageProcessorConfig image_processor;
  PromptConfig prompt;
  std::vector<StageConfig> stages;
  EvalConfig eval;

  template <typename F>
  void visit(F& f) {
    f("seed", seed, "of all random draws", Range{0});
    f("output_dir", output_dir, "folder of the run; must not exist yet");
    f("data_root", data_root,
      "folder that relative paths of records, pictures and questions start from; empty: the working directory");
    f("weights_root", weights_root,
      "folder that relative paths of tokenizer and weights start from; empty: the working directory");
    f("tokenizer", tokenizer, "Hugging Face's tokenizer.json, or its folder");
    f("device", device, "where the model runs: a GPU where there is one (auto), the CPU, or a GPU");
    f("distributed", distributed, "several processes, as torchrun, SLURM or Open MPI start them");
    f("model", model, "the architecture, always in full");
    f("image_processor", image_processor, "how pictures become pixels");
    f("prompt", prompt, "how conversations become ids");
    f("stages", stages, "training stages, in order");
    f("eval", eval, "evaluation");
  }
};

namespace app {

/// Checks what one field alone cannot tell: sizes that must agree, names that must differ, files that must be named.
/// Throws Error (usage) that lists everything wrong.
void check_run_config(const RunConfig& config, const std::string& where);

/// The same of the section eval alone.
void check_eval_config(const EvalConfig& config, const std::string& where);

/// The config with absolute paths, so that it means the same from any folder.
RunConfig resolved(RunConfig config);

/// Reads, overrides, checks and resolves.
RunConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides);

/// The section eval of a config that need have nothing else but data_root.
EvalConfig read_eval_config(const std::string& path, const std::vector<std::string>& overrides);

/// The config.json that lies beside a run or a checkpoint. Throws Error (weights) where that is damaged, Error (usage)
/// for what is wrong with `overrides`.
RunConfig read_saved_config(const std::string& path, const std::vector<std::string>& overrides = {});

}  // namespace app
}  // namespace vlmamba
