#include "vlmamba/train/profile.h"

#include <ATen/Context.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

#include "vlmamba/core/log.h"

namespace vlmamba {

using torch::profiler::impl::ActivityType;

Profile::Profile(const ProfileConfig& config, std::string path) : config_(config), path_(std::move(path)) {}

Profile::~Profile() {
  if (recording_) finish();  // the stage ended, or failed, among the recorded steps
}

void Profile::before_step(int64_t step) {
  if (recording_ || config_.steps == 0 || step < config_.first_step || step >= config_.first_step + config_.steps)
    return;
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities{ActivityType::CPU};
  if (at::hasCUDA()) activities.insert(ActivityType::CUDA);
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(
      config, activities, {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE});
  recording_ = true;
}

void Profile::after_step(int64_t step) {
  if (recording_ && step + 1 >= config_.first_step + config_.steps) finish();
}

void Profile::finish() {
  recording_ = false;
  torch::autograd::profiler::disableProfiler()->save(path_);
  log::info("profile: " + path_ + " (open it in ui.perfetto.dev)");
}

}  // namespace vlmamba
