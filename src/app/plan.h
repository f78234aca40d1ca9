#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "vlmamba/app/extensions.h"
#include "vlmamba/app/run_config.h"

namespace vlmamba::app {

/// What a run would do, for people: parts and parameters; for each of the stages `chosen` (indices into config.stages)
/// what trains, steps, schedule, batch, memory by kind, also with LoRA instead, and floating-point operations. The
/// model is built on the meta device: neither weights nor records need be there, where every set says expected_records.
std::string plan(RunConfig config, const std::vector<size_t>& chosen, const Extensions& extensions);

}  // namespace vlmamba::app
