#pragma once

#include <cstddef>
#include <vector>

#include "src/app/continuation.h"
#include "vlmamba/app/extensions.h"
#include "vlmamba/app/run_config.h"

namespace vlmamba::app {

/// Looks for everything that the stages `chosen` from `start` on will read: weights, tokenizer, records, folders of
/// pictures. Throws one Error that lists all that is missing, with the least of their exit codes, before anything is
/// built or written. Warns of what the evaluation, a command of its own, will miss: questions, the benchmarks' files.
void check_inputs(const RunConfig& config, const std::vector<size_t>& chosen, const StartingPoint& start,
                  const Extensions& extensions);

}  // namespace vlmamba::app
