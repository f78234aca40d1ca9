#pragma once

#include <cstdint>

#include "vlmamba/core/fields.h"

namespace vlmamba {

/// How the processes of a run work together and watch over each other.
struct DistConfig {
  double start_seconds = 300;
  double silent_seconds = 30;
  double stuck_seconds = 600;
  int64_t bucket_mib = 25;
  int64_t compare_every = 500;

  template <typename F>
  void visit(F& f) {
    f("start_seconds", start_seconds, "how long the processes wait for each other at the start", Range{1, 1e6});
    f("silent_seconds", silent_seconds,
      "a process without a sign of life for so long is lost: it is stopped, or its machine is gone", Range{0.5, 1e6});
    f("stuck_seconds", stuck_seconds,
      "a process that others wait for so long is stuck; longer than writing a checkpoint takes", Range{1, 1e6});
    f("bucket_mib", bucket_mib, "gradients that are summed at a time, in MiB, while the backward goes on",
      Range{1, 65536});
    f("compare_every", compare_every,
      "steps between comparisons of the processes' parameters, bit by bit; 0: only at a stage's start", Range{0});
  }
};

}  // namespace vlmamba
