#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "src/dist/sockets.h"
#include "vlmamba/dist/dist_config.h"

namespace vlmamba {

/// The ranks' eyes on each other: a thread in every process, all joined to that of rank 0 by a connection of their own.
/// A closed connection is a process that ended, a silent one a process that is stopped, and the counts of collectives
/// that the signs of life carry tell which rank the others wait for. Rank 0 tells all what it learns; when rank 0
/// itself is missed, every rank sees it alone.
class Watch {
 public:
  /// Rank 0: listens at port(), which the others must learn.
  Watch(int64_t rank, int64_t size, const DistConfig& config);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  int64_t port() const { return port_; }
  /// Meets all ranks and starts watching. `host` and `port` are rank 0's. Throws Error (peer lost) with the ranks that
  /// did not come.
  void meet(const std::string& host, int64_t port, sockets::Clock::time_point deadline);
  /// The address of this machine that the other ranks can reach.
  const std::string& address() const { return address_; }

  /// This rank has begun another collective.
  void count_collective() { ++collectives_; }
  /// Throws Error (peer lost) if a rank is known to be lost.
  void check() const;
  /// The same, after waiting for the news that must follow a broken collective.
  void check_after_failure() const;

  /// No rank is lost, and this one has not given up.
  bool all_is_well() const;

  void fail(const std::string& why) noexcept;
  void leave() noexcept;

 private:
  using Time = sockets::Clock::time_point;
  struct Peer {
    int64_t rank;
    sockets::Socket socket;
    std::string inbox{};
    Time heard{}, advanced{};
    int64_t collectives = 0;
    bool left = false;
  };
  void accept_all(Time deadline);
  void work();
  void listen_to_peers();
  void handle(Peer& peer, const std::string& line);
  void send_sign_of_life();
  void look_for_silent_ranks();
  void look_for_stuck_ranks();
  void end_process_when_overdue();
  void tell(const std::string& line);
  void lose(int64_t rank, const std::string& why);

  const int64_t rank_, size_;
  const DistConfig config_;
  int64_t port_ = 0;
  sockets::Socket listener_;
  std::string address_;
  std::atomic<int64_t> collectives_ = 0;

  mutable std::mutex mutex_;
  mutable std::condition_variable news_;
  std::vector<Peer> peers_;  // of rank 0 all others, of the others rank 0
  std::optional<std::string> lost_;
  Time lost_at_{}, sent_at_{}, own_advanced_{};
  int64_t own_collectives_ = 0;
  bool leaving_ = false, failed_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace vlmamba
