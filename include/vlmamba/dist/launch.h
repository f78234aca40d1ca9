#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "vlmamba/core/error.h"
#include "vlmamba/dist/comm.h"
#include "vlmamba/dist/dist_config.h"

namespace vlmamba {

/// What a launcher told this process about its place.
struct Launch {
  std::string launcher;  ///< torchrun, SLURM or Open MPI
  int64_t rank = 0, size = 1, local_rank = 0;
  std::string host;        ///< where rank 0 runs
  int64_t port = 0;        ///< of the ranks' meeting point there
  bool has_store = false;  ///< the launcher itself keeps that meeting point
};

/// Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT (torchrun), SLURM's variables of a step that srun
/// started, or Open MPI's; `variable` gives the value of one, or none. None at all: this process is alone. Variables
/// that are missing or contradict each other throw Error (usage).
std::optional<Launch> read_launch(const std::function<const char*(const char*)>& variable);

/// Which of how many processes this one is.
struct LaunchedRank {
  int64_t rank = 0, size = 1;
};

/// The same variables for work that is dealt out without meeting: only rank and size are read.
LaunchedRank launched_rank();

/// Joins the ranks of a launch: Gloo for tensors on the CPU, NCCL for those on GPUs (in a build with CUDA). Throws
/// Error (peer lost) that names the ranks that did not come. From then on a process that ends, falls silent or is
/// waited for too long is named on every other rank, whose collectives throw Error (peer lost); a rank that still runs
/// 5 s later, wherever it is, is ended with that exit code.
std::unique_ptr<Comm> join(const Launch& launch, const DistConfig& config);

/// The ranks that this process was launched among, by its environment, which is read nowhere else; or alone.
std::unique_ptr<Comm> join_launched(const DistConfig& config);

/// Does `work` as one of the ranks: where it throws, the others learn why and end too. What all ranks find alike,
/// values that are not finite, each of them reports by itself.
template <typename Work>
auto as_rank(Comm& comm, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kNonFinite)
      comm.leave();
    else
      comm.fail(error.what());
    throw;
  } catch (const std::exception& error) {
    comm.fail(error.what());
    throw;
  }
}

}  // namespace vlmamba
