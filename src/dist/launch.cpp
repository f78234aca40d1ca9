#include "vlmamba/dist/launch.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using Variables = std::function<const char*(const char*)>;

constexpr int64_t kFirstPort = 20000, kNumPorts = 10000;  // below the ports that systems hand out

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kUsage, where, message);
}

// What a launcher calls a process's place.
struct Launcher {
  const char *name, *rank, *size, *local_rank;
};
constexpr Launcher kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"};
constexpr Launcher kSlurm{"SLURM", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"};
constexpr Launcher kOpenMpi{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"};

// Who started this process; null where nobody did.
const Launcher* launcher_of(const Variables& variables) {
  const auto has = [&](const char* name) {
    const char* value = variables(name);
    return value && *value;
  };
  if (has(kTorchrun.rank) || has(kTorchrun.size) || has(kTorchrun.local_rank))
    return &kTorchrun;                   // which may itself run under srun or mpirun
  if (has(kSlurm.size)) return &kSlurm;  // not in a batch script, nor in a shell of salloc: srun alone sets it
  return has(kOpenMpi.size) ? &kOpenMpi : nullptr;
}

const char* environment(const char* name) { return std::getenv(name); }

// Reads variables of one launcher and says which one is wrong.
class Reader {
 public:
  Reader(const Launcher& launcher, const Variables& variables) : launcher_(launcher), variables_(variables) {}

  bool has(const char* name) const { return !text_or(name, "").empty(); }

  std::string text_or(const char* name, const std::string& otherwise) const {
    const char* value = variables_(name);
    return value && *value ? value : otherwise;
  }

  std::string text(const char* name) const {
    if (!has(name)) refuse(name, std::string("expected this variable from ") + launcher_.name + ", got none");
    return variables_(name);
  }

  int64_t number(const char* name, int64_t least, int64_t most) const {
    const std::string value = text(name);
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size() || number < least || number > most)
      refuse(name, "expected an integer from " + std::to_string(least) + " to " + std::to_string(most) + ", got \"" +
                       value + "\"");
    return number;
  }

  LaunchedRank rank() const {
    const int64_t size = number(launcher_.size, 1, 1 << 20);
    return {number(launcher_.rank, 0, size - 1), size};
  }

  Launch launch() const {
    const auto [own, size] = rank();
    Launch launch;
    launch.launcher = launcher_.name;
    launch.size = size;
    launch.rank = own;
    launch.local_rank = number(launcher_.local_rank, 0, size - 1);
    return launch;
  }

  void meet_at_master(Launch& launch) const {
    launch.host = text("MASTER_ADDR");
    launch.port = number("MASTER_PORT", 1, 65535);
  }

 private:
  const Launcher& launcher_;
  const Variables& variables_;
};

// The first of node[01-04,07],other: node01.
std::string first_host(const std::string& list) {
  const size_t bracket = list.find_first_of("[,");
  if (bracket == std::string::npos || list[bracket] == ',') return list.substr(0, bracket);
  const size_t end = list.find_first_of("-,]", bracket);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

Launch from_torchrun(const Variables& variables) {
  const Reader reader(kTorchrun, variables);
  Launch launch = reader.launch();
  if (launch.size > 1) reader.meet_at_master(launch);
  launch.has_store = reader.text_or("TORCHELASTIC_USE_AGENT_STORE", "") == "True";
  return launch;
}

Launch from_slurm(const Variables& variables) {
  const Reader reader(kSlurm, variables);
  Launch launch = reader.launch();
  if (reader.has("MASTER_ADDR") || reader.has("MASTER_PORT")) {
    reader.meet_at_master(launch);
  } else {
    launch.host = first_host(reader.text("SLURM_STEP_NODELIST"));
    launch.port = kFirstPort + reader.number("SLURM_JOB_ID", 0, int64_t{1} << 40) % kNumPorts;
  }
  return launch;
}

Launch from_open_mpi(const Variables& variables) {
  const Reader reader(kOpenMpi, variables);
  Launch launch = reader.launch();
  if (launch.size > 1) reader.meet_at_master(launch);
  return launch;
}

}  // namespace

std::optional<Launch> read_launch(const Variables& variables) {
  const Launcher* launcher = launcher_of(variables);
  if (launcher == nullptr) return std::nullopt;
  const Launch launch = launcher == &kTorchrun ? from_torchrun(variables)
                        : launcher == &kSlurm  ? from_slurm(variables)
                                               : from_open_mpi(variables);
  return launch.size > 1 ? std::optional(launch) : std::nullopt;
}

LaunchedRank launched_rank() {
  const Variables variables = environment;
  const Launcher* launcher = launcher_of(variables);
  return launcher == nullptr ? LaunchedRank{} : Reader(*launcher, variables).rank();
}

std::unique_ptr<Comm> join_launched(const DistConfig& config) {
  const auto launch = read_launch(environment);
  return launch ? join(*launch, config) : alone();
}

}  // namespace vlmamba
