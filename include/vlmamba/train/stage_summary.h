#pragma once

#include <cstdint>
#include <string>

#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/optimizer.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

/// What a stage would do, for people: parts, groups, parameters, steps.
std::string stage_summary(const StageConfig& stage, const VlMamba& model, const Optimizer& optimizer,
                          int64_t num_records);

}  // namespace vlmamba
