#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "vlmamba/core/batch.h"
#include "vlmamba/io/json.h"
#include "vlmamba/train/step_flops.h"

namespace vlmamba {

/// Where the time of training steps goes: a line of timing.jsonl each. Phases are also ranges in traces, of the
/// profiler and of NVTX.
class StepTiming {
 public:
  /// `peak_tflops`: of one device, for MFU; 0: what is known of the GPU in use, else there is no MFU.
  StepTiming(const VlMamba& model, const ForwardFlops& flops, double peak_tflops);

  /// Runs f as a phase; what a name takes in a step is summed.
  template <typename F>
  auto phase(const char* name, F&& f) {
    const Phase phase(*this, name);
    return f();
  }

  /// The line of the step that ended, which took the time since the last line; the next one begins. `own`: what this
  /// process worked on, which MFU is of; `all`: what all did together.
  io::Json line(int64_t step, const StepSize& own, const StepSize& all);

 private:
  class Phase {
   public:
    Phase(StepTiming& timing, const char* name);
    ~Phase();
    Phase(const Phase&) = delete;
    Phase& operator=(const Phase&) = delete;

   private:
    struct Mark;
    StepTiming& timing_;
    const char* name_;
    double start_;
    Mark* mark_;  // in the profiler's trace
  };

  const VlMamba& model_;
  ForwardFlops flops_;
  double peak_flops_, step_start_;
  std::vector<std::pair<std::string, double>> phases_;  // in ms, in the order in which they began
};

/// The positions that are no padding, the pictures and the targets of these batches.
StepSize size_of(const std::vector<Batch>& micro_batches);

}  // namespace vlmamba
