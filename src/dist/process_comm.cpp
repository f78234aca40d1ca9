#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "src/dist/backends.h"
#include "src/dist/watch.h"
#include "vlmamba/core/error.h"
#include "vlmamba/dist/launch.h"

namespace vlmamba {
namespace {

using at::Tensor;
using std::chrono::milliseconds;

constexpr auto kSlice = milliseconds(200);  // between two looks at the news while a collective is awaited
constexpr const char* kWatchPort = "watch_port";

milliseconds in_milliseconds(double seconds) { return milliseconds(static_cast<int64_t>(seconds * 1000)); }

// Waits for one collective, and looks out for lost ranks meanwhile. NCCL's is done when the stream will wait for it.
class Running final : public Collective {
 public:
  Running(c10::intrusive_ptr<c10d::Work> work, const Watch& watch, Tensor received = {}, Tensor wanted = {})
      : work_(std::move(work)), watch_(watch), received_(std::move(received)), wanted_(std::move(wanted)) {}

  ~Running() override = default;

  void wait() override {
    while (!finished()) watch_.check();
    if (received_.defined()) wanted_.copy_(received_);
  }

 private:
  bool finished() try {
    if (wanted_.is_cuda()) return work_->wait();
    return work_->wait(kSlice);
  } catch (const std::exception& error) {
    if (!wanted_.is_cuda() && !work_->isCompleted()) return false;  // a slice of time is over, no more
    watch_.check_after_failure();
    throw Error(ExitCode::kPeerLost, "ranks",
                "expected every rank to take part in a collective, got: " + std::string(error.what()));
  }

  c10::intrusive_ptr<c10d::Work> work_;
  const Watch& watch_;
  Tensor received_, wanted_;
};

class ProcessComm final : public Comm {
 public:
  ProcessComm(const Launch& launch, std::unique_ptr<Watch> watch, c10::intrusive_ptr<c10d::Store> store, Backend cpu,
              Backend gpu)
      : Comm(launch.rank, launch.size, launch.local_rank),
        watch_(std::move(watch)),
        store_(std::move(store)),
        cpu_(std::move(cpu)),
        gpu_(std::move(gpu)) {}

  // A backend waits for its collectives before it goes, which a lost rank would never let it.
  ~ProcessComm() override {
    const bool well = watch_->all_is_well();
    watch_->leave();
    if (well) return;
    (void)cpu_.release();
    (void)gpu_.release();
    (void)store_.release();
  }

  std::unique_ptr<Collective> start_sum(const Tensor& tensor) override {
    return start(tensor, [&](c10d::Backend& backend) {
      std::vector<Tensor> tensors{tensor};
      return backend.allreduce(tensors);
    });
  }

  std::unique_ptr<Collective> start_sum_scattered(const Tensor& flat) override {
    Tensor own = chunk(flat), sum = at::empty_like(own), all = flat;
    auto work = begin(flat, [&](c10d::Backend& backend) { return backend._reduce_scatter_base(sum, all); });
    return std::make_unique<Running>(std::move(work), *watch_, sum, own);
  }

  std::unique_ptr<Collective> start_gather(const Tensor& flat) override {
    Tensor own = chunk(flat).clone(), all = flat;
    return start(flat, [&](c10d::Backend& backend) { return backend._allgather_base(all, own); });
  }

  void broadcast(const Tensor& tensor, int64_t from) override {
    start(tensor, [&](c10d::Backend& backend) {
      std::vector<Tensor> tensors{tensor};
      c10d::BroadcastOptions options;
      options.rootRank = from;
      return backend.broadcast(tensors, options);
    })->wait();
  }

  void fail(const std::string& why) noexcept override { watch_->fail(why); }
  void leave() noexcept override { watch_->leave(); }

 private:
  Tensor chunk(const Tensor& flat) const {
    const int64_t count = flat.numel() / size();
    return flat.slice(0, rank() * count, (rank() + 1) * count);
  }

  c10d::Backend& backend_of(const Tensor& tensor) {
    if (!tensor.is_cuda()) return *cpu_;
    if (!gpu_) throw Error(ExitCode::kUsage, "ranks", "expected tensors on the CPU, got one on a GPU without NCCL");
    return *gpu_;
  }

  template <typename Begin>
  c10::intrusive_ptr<c10d::Work> begin(const Tensor& tensor, const Begin& call) {
    watch_->check();
    c10d::Backend& backend = backend_of(tensor);
    watch_->count_collective();
    return call(backend);
  }

  template <typename Begin>
  std::unique_ptr<Collective> start(const Tensor& tensor, const Begin& call) {
    return std::make_unique<Running>(begin(tensor, call), *watch_, Tensor(), tensor);
  }

  std::unique_ptr<Watch> watch_;
  c10::intrusive_ptr<c10d::Store> store_;
  Backend cpu_, gpu_;
};

c10::intrusive_ptr<c10d::Store> meeting_point(const Launch& launch, milliseconds timeout) try {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = launch.rank == 0 && !launch.has_store;
  options.waitWorkers = false;  // the watch waits, and knows who is missing
  options.timeout = timeout;
  return c10::make_intrusive<c10d::TCPStore>(launch.host, options);
} catch (const std::exception& error) {
  throw Error(ExitCode::kPeerLost, "ranks",
              "expected to meet at " + launch.host + ":" + std::to_string(launch.port) + " (as " + launch.launcher +
                  " says), got: " + error.what());
}

int64_t watch_port(c10d::Store& store, const Watch& watch, int64_t rank) try {
  if (rank == 0) store.set(kWatchPort, std::to_string(watch.port()));
  return std::stoll(store.get_to_str(kWatchPort));
} catch (const std::exception& error) {
  throw Error(ExitCode::kPeerLost, "rank 0", std::string("expected to learn where it waits, got: ") + error.what());
}

}  // namespace

std::unique_ptr<Comm> join(const Launch& launch, const DistConfig& config) {
  const auto deadline = sockets::Clock::now() + in_milliseconds(config.start_seconds);
  const auto store = meeting_point(launch, in_milliseconds(config.start_seconds));
  auto watch = std::make_unique<Watch>(launch.rank, launch.size, config);
  watch->meet(launch.host, watch_port(*store, *watch, launch.rank), deadline);
  const auto patience = in_milliseconds(2 * config.stuck_seconds);  // the watch speaks first, and names the rank
  try {
    Backend cpu = gloo(store, launch.rank, launch.size, watch->address(), patience);
    Backend gpu = nccl(store, launch.rank, launch.size, patience);
    return std::make_unique<ProcessComm>(launch, std::move(watch), store, std::move(cpu), std::move(gpu));
  } catch (const c10::Error& error) {
    watch->check_after_failure();
    throw Error(ExitCode::kPeerLost, "ranks",
                std::string("expected to reach every rank, got: ") + error.what_without_backtrace());
  }
}

}  // namespace vlmamba
