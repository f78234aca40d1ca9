#pragma once

#include <cstdint>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/eval/task.h"
#include "vlmamba/infer/sampling.h"

namespace vlmamba {

/// What a run is evaluated on, and how.
struct EvalConfig {
  int64_t batch = 32;
  SamplingConfig sampling;
  std::vector<TaskConfig> tasks;

  template <typename F>
  void visit(F& f) {
    f("batch", batch, "questions that are answered together", Range{1});
    f("sampling", sampling, "how answers are generated");
    f("tasks", tasks, "what is evaluated");
  }
};

}  // namespace vlmamba
