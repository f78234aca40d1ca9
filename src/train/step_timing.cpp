#include "vlmamba/train/step_timing.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>

#include "src/train/device_facts.h"
#include "vlmamba/core/tokens.h"

namespace vlmamba {
namespace {

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct StepTiming::Phase::Mark {
  explicit Mark(const char* name) : record(at::RecordScope::USER_SCOPE) {
    if (record.isActive()) record.before(name);
  }
  at::RecordFunction record;
};

StepTiming::Phase::Phase(StepTiming& timing, const char* name)
    : timing_(timing), name_(name), start_(now_ms()), mark_(new Mark(name)) {
  device_facts::begin_range(name);
}

StepTiming::Phase::~Phase() {
  device_facts::end_range();
  delete mark_;
  auto& phases = timing_.phases_;
  const auto known =
      std::find_if(phases.begin(), phases.end(), [&](const auto& entry) { return entry.first == name_; });
  (known == phases.end() ? phases.emplace_back(name_, 0) : *known).second += now_ms() - start_;
}

StepTiming::StepTiming(const VlMamba& model, const ForwardFlops& flops, double peak_tflops)
    : model_(model),
      flops_(flops),
      peak_flops_(peak_tflops > 0 ? peak_tflops * 1e12 : device_facts::peak_flops()),
      step_start_(now_ms()) {}

io::Json StepTiming::line(int64_t step, const StepSize& own, const StepSize& all) {
  const double ms = now_ms() - step_start_, seconds = ms / 1000;
  io::Json line = io::Json::object(), phases = io::Json::object();
  line.set("step", step);
  line.set("step_ms", ms);
  line.set("tokens_per_s", all.positions / seconds);
  line.set("targets_per_s", all.targets / seconds);
  line.set("images_per_s", all.pictures / seconds);
  const double flops = step_flops(flops_, model_, own);
  line.set("tflops", flops / seconds / 1e12);
  if (peak_flops_ > 0) line.set("mfu", flops / seconds / peak_flops_);
  line.set("mem_gib", static_cast<double>(device_facts::peak_memory()) / (1 << 30));
  for (const auto& [name, spent] : phases_) phases.set(name + "_ms", spent);
  line.set("phases", std::move(phases));
  phases_.clear();
  step_start_ += ms;
  return line;
}

StepSize size_of(const std::vector<Batch>& micro_batches) {
  StepSize size;
  for (const auto& batch : micro_batches) {
    size.positions += static_cast<double>(batch.seq_idx.defined() ? batch.seq_idx.ge(0).sum().item<int64_t>()
                                                                  : batch.input_ids.numel());
    size.targets += static_cast<double>(batch.labels.ne(kIgnoreIndex).sum().item<int64_t>());
    size.pictures += batch.pixel_values.defined() ? static_cast<double>(batch.pixel_values.size(0)) : 0;
  }
  return size;
}

}  // namespace vlmamba
