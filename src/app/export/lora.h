#pragma once

#include <string>

#include "vlmamba/app/run_config.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/weights/weight_files.h"

namespace vlmamba::app {

/// Writes the weights of a checkpoint as a safetensors file in which LoRA is part of what it stood beside: W + alpha /
/// r B A, by the checkpoint's own `config` and `state`. Throws Error (weights).
void write_with_lora_merged(const io::WeightFiles& files, const RunConfig& config, const io::Json& state,
                            const std::string& path);

}  // namespace vlmamba::app
