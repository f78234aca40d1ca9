#pragma once

#include <cstdint>

#include "vlmamba/train/stage.h"

namespace vlmamba {

/// The factor of the peak learning rate at step 0 .. total-1, as Hugging Face's schedules: linear from 0 over
/// ceil(warmup_ratio * total) steps, then 0.5 (1 + cos(pi p)), 1 - p or 1, where p is the share done of what follows.
double lr_factor(const ScheduleConfig& schedule, int64_t step, int64_t total);

}  // namespace vlmamba
