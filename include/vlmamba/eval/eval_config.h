#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/data/prompt.h"
#include "vlmamba/eval/task.h"
#include "vlmamba/infer/sampling.h"

namespace vlmamba {

/// What a run is evaluated on, and how.
struct EvalConfig {
  int64_t batch = 32;
  int64_t prefix_memory_mib = 1024;
  std::optional<PromptConfig> prompt;
  SamplingConfig sampling;
  std::vector<TaskConfig> tasks;

  template <typename F>
  void visit(F& f) {
    f("batch", batch, "questions that are answered together", Range{1});
    f("prefix_memory_mib", prefix_memory_mib,
      "memory for pictures and beginnings of prompts that several questions share; the latest is always kept",
      Range{0, 1 << 30});
    f("prompt", prompt, "how questions become ids; null: as the run's conversations");
    f("sampling", sampling, "how answers are generated");
    f("tasks", tasks, "what is evaluated");
  }
};

}  // namespace vlmamba
