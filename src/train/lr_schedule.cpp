#include "vlmamba/train/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace vlmamba {

double lr_factor(const ScheduleConfig& schedule, int64_t step, int64_t total) {
  const double steps = static_cast<double>(total), now = static_cast<double>(step);
  const double warmup =
      schedule.warmup_steps > 0 ? static_cast<double>(schedule.warmup_steps) : std::ceil(schedule.warmup_ratio * steps);
  if (now < warmup) return now / warmup;
  const double progress = (now - warmup) / std::max(1.0, steps - warmup);
  switch (schedule.kind) {
    case ScheduleKind::kCosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case ScheduleKind::kLinear:
      return 1 - progress;
    case ScheduleKind::kConstant:
      break;
  }
  return 1;
}

int64_t planned_steps(const StageConfig& stage, int64_t num_records) {
  if (stage.steps > 0) return stage.steps;
  return static_cast<int64_t>(
      std::ceil(stage.epochs * static_cast<double>(num_records) / static_cast<double>(stage.batch.global_batch)));
}

}  // namespace vlmamba
