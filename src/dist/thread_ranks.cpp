#include "vlmamba/dist/thread_ranks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using at::Tensor;

enum class Kind { kSum, kSumScattered, kGather, kBroadcast };

// Where the threads of all ranks meet: collectives by their number, each done by the rank that comes last.
class Meeting {
 public:
  explicit Meeting(int64_t size) : size_(size) {}

  void come(int64_t number, int64_t rank, Kind kind, const Tensor& tensor, int64_t from) {
    const std::lock_guard lock(mutex_);
    auto& place = places_[number];
    place.tensors.resize(static_cast<size_t>(size_));
    place.tensors[static_cast<size_t>(rank)] = tensor;
    if (++place.came < size_) return;
    perform(kind, place.tensors, from);
    place.done = true;
    news_.notify_all();
  }

  void wait(int64_t number) {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return places_[number].done || lost_; });
    if (!places_[number].done) throw Error(ExitCode::kPeerLost, *lost_);
    if (++places_[number].left == size_) places_.erase(number);
  }

  void lose(int64_t rank, const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (!lost_) lost_ = "[rank " + std::to_string(rank) + "] this rank is lost: " + why;
    news_.notify_all();
  }

 private:
  struct Place {
    std::vector<Tensor> tensors{};
    int64_t came = 0, left = 0;
    bool done = false;
  };

  Tensor chunk(const Tensor& flat, size_t rank) const {
    const int64_t count = flat.numel() / size_;
    return flat.slice(0, static_cast<int64_t>(rank) * count, (static_cast<int64_t>(rank) + 1) * count);
  }

  void perform(Kind kind, std::vector<Tensor>& tensors, int64_t from) const {
    const at::NoGradGuard no_grad;
    if (kind == Kind::kBroadcast) {
      for (auto& tensor : tensors) tensor.copy_(tensors[static_cast<size_t>(from)].clone());
    } else if (kind == Kind::kGather) {
      for (size_t r = 0; r < tensors.size(); ++r)
        for (auto& tensor : tensors) chunk(tensor, r).copy_(chunk(tensors[r], r).clone());
    } else {
      Tensor sum = tensors[0].clone();
      for (size_t r = 1; r < tensors.size(); ++r) sum.add_(tensors[r]);
      for (size_t r = 0; r < tensors.size(); ++r)
        if (kind == Kind::kSum)
          tensors[r].copy_(sum);
        else
          chunk(tensors[r], r).copy_(chunk(sum, r));
    }
  }

  const int64_t size_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::map<int64_t, Place> places_;
  std::optional<std::string> lost_;
};

class ThreadComm final : public Comm {
 public:
  ThreadComm(int64_t rank, int64_t size, Meeting& meeting) : Comm(rank, size, rank), meeting_(meeting) {}

  std::unique_ptr<Collective> start_sum(const Tensor& tensor) override { return start(Kind::kSum, tensor); }
  std::unique_ptr<Collective> start_sum_scattered(const Tensor& flat) override {
    return start(Kind::kSumScattered, flat);
  }
  std::unique_ptr<Collective> start_gather(const Tensor& flat) override { return start(Kind::kGather, flat); }
  void broadcast(const Tensor& tensor, int64_t from) override { start(Kind::kBroadcast, tensor, from)->wait(); }
  void fail(const std::string& why) noexcept override { meeting_.lose(rank(), why); }
  void leave() noexcept override {}

 private:
  struct Running final : Collective {
    Running(Meeting& where, int64_t which) : meeting(where), number(which) {}
    void wait() override { meeting.wait(number); }
    Meeting& meeting;
    int64_t number;
  };

  std::unique_ptr<Collective> start(Kind kind, const Tensor& tensor, int64_t from = 0) {
    meeting_.come(next_, rank(), kind, tensor, from);
    return std::make_unique<Running>(meeting_, next_++);
  }

  Meeting& meeting_;
  int64_t next_ = 0;
};

}  // namespace

void run_ranks(int64_t size, const std::function<void(Comm&)>& work) {
  Meeting meeting(size);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadComm comm(rank, size, meeting);
      try {
        work(comm);
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
        comm.fail(error.what());
      }
    });
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace vlmamba
