#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/app/continuation.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/error.h"
#include "vlmamba/dist/comm.h"

namespace vlmamba::app {

/// Keeps a second program out of a run while this one lives. Throws Error (usage) where one is in.
class RunLock {
 public:
  explicit RunLock(const std::string& run);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_;
};

/// Trains the stages of a run that are not finished yet.
class Run {
 public:
  /// Builds the model; writes nothing. `config` must outlive the run. Where `start` has a checkpoint, the weights are
  /// that one's, and `pretrained` is not read.
  Run(const RunConfig& config, const Extensions& extensions, std::shared_ptr<Comm> comm, StartingPoint start,
      std::function<bool()> stop_requested);

  /// The stages `chosen` (indices into config.stages) from the starting point on, in order: ok, or preempted where a
  /// stop was requested.
  ExitCode train(const std::vector<size_t>& chosen);

 private:
  StageEnd train_stage(size_t stage, std::optional<int64_t> step);

  const RunConfig& config_;
  std::shared_ptr<Comm> comm_;
  StartingPoint start_;
  std::function<bool()> stop_requested_;
  Tokenizer tokenizer_;
  std::shared_ptr<VlMamba> model_;
};

}  // namespace vlmamba::app
