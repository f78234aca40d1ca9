#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vlmamba/train/stage.h"

namespace vlmamba {

/// Text for the log where a loss stands out: above mean + deviations * standard deviation of the `window` losses before
/// it. `before` are those, which this one then joins.
std::optional<std::string> loss_spike(const LossSpikeConfig& config, double loss, std::vector<double>& before);

}  // namespace vlmamba
