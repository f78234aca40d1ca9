#pragma once

#include <CLI/App.hpp>
#include <cstdint>

#include "vlmamba/infer/sampling.h"

namespace vlmamba::app {

/// --max-new-tokens, --temperature, --top-p, --top-k and --seed.
void add_sampling_options(CLI::App& command, SamplingConfig& sampling, int64_t& seed);

}  // namespace vlmamba::app
