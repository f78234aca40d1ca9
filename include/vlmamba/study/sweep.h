#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "vlmamba/core/error.h"
#include "vlmamba/study/sweep_config.h"
#include "vlmamba/study/sweep_plan.h"

namespace vlmamba::study {

/// What a sweep needs from the program around it.
struct SweepSetup {
  std::string folder;
  std::string program;              ///< that knows `train` and `evaluate`
  std::vector<std::string> launch;  ///< words before `program train`
  int64_t jobs = 1;                 ///< runs at a time; the processor's cores are divided among them
  std::function<io::Json(const std::string& path)> read_config;  ///< reads and resolves a run config
  std::function<bool()> stop;                                    ///< asked often; true: stop in good order
};

struct SweepFailure {
  std::string run, why;
  int code = 0;
};

struct SweepOutcome {
  int64_t finished = 0;  ///< runs that are complete now
  int64_t found = 0;     ///< of these, how many were already
  bool stopped = false;
  std::vector<SweepFailure> failures;
};

/// What starts a program: itself where it is a path or lies beside `own_program`, else what the shell would find.
std::vector<std::string> found_program(const std::string& name, const std::string& own_program);

/// Runs the preparations whose files are not there yet. Throws Error if one fails.
void prepare(const std::vector<Preparation>& steps, const SweepSetup& setup);

/// Trains and evaluates what is planned and not done yet.
///
/// Every run is trained and asked by `vlmamba train` and `vlmamba evaluate` in processes of their own: one that
/// crashes, runs out of memory or meets a NaN takes no other with it, its memory is free for the next, and what it does
/// is what its user would get by hand. How far a run is, its folder says: after a crash or kill -9 of any process at
/// any moment, the same call goes on from the last checkpoints. Runs that fail are listed, the others go on.
SweepOutcome run_sweep(const std::vector<PlannedRun>& plan, const SweepSetup& setup);

/// Keeps a second sweep out of a folder while this one or a program that it started lives. Waits a while for programs
/// that a killed sweep left. Throws Error (usage).
class SweepLock {
 public:
  explicit SweepLock(const std::string& folder);
  ~SweepLock();
  SweepLock(const SweepLock&) = delete;
  SweepLock& operator=(const SweepLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace vlmamba::study
