#pragma once

#include <string>
#include <vector>

#include "vlmamba/app/run_config.h"
#include "vlmamba/data/tokenizer.h"
#include "vlmamba/model/vl_mamba.h"

/// What a stage takes over from an earlier checkpoint.
namespace vlmamba::app {

/// Throws Error (usage) listing key by key what the checkpoint in the step folder `checkpoint` has otherwise than
/// `config`, as far as `parts` (empty: all) depend on it: sizes of encoder, connector and language model, pictures,
/// prompts, tokenizer.
void check_predecessor(const RunConfig& config, const Tokenizer& tokenizer, const std::string& checkpoint,
                       const std::vector<std::string>& parts = {});

/// Copies what `init.parts` names out of a checkpoint of this program, or out of a file of weights, into the model, and
/// logs how many tensors were loaded, missing and left fresh. Throws Error (weights) for tensors that are missing and
/// not named in `init.fresh`, and for those that nothing takes.
void load_predecessor(VlMamba& model, const RunConfig& config, const Tokenizer& tokenizer, const InitFromConfig& init);

}  // namespace vlmamba::app
