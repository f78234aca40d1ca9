#include "src/dist/watch.h"

#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using sockets::Clock;
using std::chrono::milliseconds;

constexpr auto kLookInterval = milliseconds(100);
constexpr auto kNewsTakes = std::chrono::seconds(3);
constexpr auto kGrace = std::chrono::seconds(5);  // for a lost run to end in good order
constexpr size_t kLongestReason = 2000;

Clock::duration seconds(double count) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

std::string text(double seconds) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", seconds);
  return buffer;
}

std::string one_line(std::string why) {
  std::replace(why.begin(), why.end(), '\n', ' ');
  return why.substr(0, kLongestReason);
}

}  // namespace

Watch::Watch(int64_t rank, int64_t size, const DistConfig& config) : rank_(rank), size_(size), config_(config) {
  if (rank_ == 0) listener_ = sockets::listen_anywhere(port_);
}

Watch::~Watch() {
  leave();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void Watch::accept_all(Time deadline) {
  std::vector<bool> came(static_cast<size_t>(size_));
  came[0] = true;
  while (static_cast<int64_t>(peers_.size()) < size_ - 1) {
    auto socket = sockets::accept_until(listener_, deadline);
    if (!socket) break;
    Peer peer{-1, std::move(*socket)};
    std::istringstream hello(sockets::receive_line(peer.socket, peer.inbox, deadline).value_or(""));
    std::string word;
    if (!(hello >> word >> peer.rank) || word != "hello" || peer.rank < 1 || peer.rank >= size_) continue;
    if (came[static_cast<size_t>(peer.rank)])
      throw Error(ExitCode::kUsage, "ranks",
                  "expected every rank once, got rank " + std::to_string(peer.rank) + " twice");
    came[static_cast<size_t>(peer.rank)] = true;
    const std::string own = sockets::local_address(peer.socket);
    if (address_.empty() || sockets::is_loopback(address_)) address_ = own;
    peers_.push_back(std::move(peer));
  }
  std::string missing;
  for (size_t r = 0; r < came.size(); ++r)
    if (!came[r]) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
  if (!missing.empty())
    throw Error(ExitCode::kPeerLost, "ranks",
                "expected " + std::to_string(size_) + " of them within " + text(config_.start_seconds) +
                    " s, got none of rank " + missing);
}

void Watch::meet(const std::string& host, int64_t port, Time deadline) {
  if (rank_ == 0) {
    accept_all(deadline);
    for (const auto& peer : peers_) sockets::send_line(peer.socket, "welcome " + address_);
  } else {
    peers_.push_back({0, sockets::connect_until(host, port, deadline)});
    sockets::send_line(peers_[0].socket, "hello " + std::to_string(rank_));
    const auto welcome = sockets::receive_line(peers_[0].socket, peers_[0].inbox, deadline);
    if (!welcome || !welcome->starts_with("welcome "))
      throw Error(ExitCode::kPeerLost, "rank 0", "expected all ranks to come, got no answer");
    address_ = sockets::local_address(peers_[0].socket);
    // On the machine of rank 0, whose name may mean the loopback there: the address that other machines use.
    if (sockets::is_loopback(address_)) address_ = welcome->substr(welcome->find(' ') + 1);
  }
  const Time now = Clock::now();
  for (auto& peer : peers_) peer.heard = peer.advanced = now;
  own_advanced_ = now;
  thread_ = std::thread([this] { work(); });
}

void Watch::work() {
  for (;;) {
    std::vector<pollfd> sockets;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      for (const auto& peer : peers_)
        if (!peer.left) sockets.push_back({peer.socket.get(), POLLIN, 0});
    }
    ::poll(sockets.data(), sockets.size(), static_cast<int>(kLookInterval.count()));
    const std::lock_guard lock(mutex_);
    listen_to_peers();
    send_sign_of_life();
    look_for_silent_ranks();
    if (rank_ == 0) look_for_stuck_ranks();
    end_process_when_overdue();
  }
}

void Watch::listen_to_peers() {
  for (auto& peer : peers_) {
    if (peer.left) continue;
    const bool open = sockets::receive(peer.socket, peer.inbox);
    while (const auto line = sockets::take_line(peer.inbox)) handle(peer, *line);
    if (open || peer.left) continue;
    peer.left = true;
    lose(peer.rank, "its process has ended without a word: killed, or crashed");
  }
}

void Watch::handle(Peer& peer, const std::string& line) {
  peer.heard = Clock::now();
  std::istringstream words(line);
  std::string kind, why;
  int64_t number = 0;
  words >> kind;
  if (kind == "alive") {
    words >> number;
    if (number != peer.collectives) peer.advanced = peer.heard;
    peer.collectives = number;
  } else if (kind == "bye") {
    peer.left = true;
  } else if (kind == "fail") {
    std::getline(words >> std::ws, why);
    lose(peer.rank, "it gave up: " + why);
    peer.left = true;
  } else if (kind == "lost") {
    words >> number;
    std::getline(words >> std::ws, why);
    lose(number, why);
  }
}

void Watch::send_sign_of_life() {
  const Time now = Clock::now();
  if (now - sent_at_ < std::min<Clock::duration>(std::chrono::seconds(1), seconds(config_.silent_seconds / 5))) return;
  sent_at_ = now;
  const int64_t collectives = collectives_;
  if (collectives != own_collectives_) own_advanced_ = now;
  own_collectives_ = collectives;
  tell("alive " + std::to_string(collectives));
}

void Watch::look_for_silent_ranks() {
  for (auto& peer : peers_)
    if (!peer.left && Clock::now() - peer.heard > seconds(config_.silent_seconds))
      lose(peer.rank, "its process has given no sign of life for " + text(config_.silent_seconds) +
                          " s: stopped, or its machine is gone");
}

void Watch::look_for_stuck_ranks() {
  int64_t most = own_collectives_;
  Time reached = own_advanced_;
  for (const auto& peer : peers_)
    if (peer.collectives > most) {
      most = peer.collectives;
      reached = peer.advanced;
    }
  const auto look = [&](int64_t rank, int64_t collectives, Time advanced) {
    if (collectives < most && Clock::now() - std::max(advanced, reached) > seconds(config_.stuck_seconds))
      lose(rank, "the others have waited for it for " + text(config_.stuck_seconds) + " s: stuck before collective " +
                     std::to_string(collectives + 1));
  };
  look(0, own_collectives_, own_advanced_);
  for (const auto& peer : peers_)
    if (!peer.left) look(peer.rank, peer.collectives, peer.advanced);
}

void Watch::end_process_when_overdue() {
  if (!lost_ || leaving_ || Clock::now() - lost_at_ < kGrace) return;
  std::fprintf(stderr, "vlmamba: %s\n", lost_->c_str());
  std::fflush(stderr);
  std::_Exit(static_cast<int>(ExitCode::kPeerLost));
}

void Watch::tell(const std::string& line) {
  for (auto& peer : peers_)
    if (!peer.left) sockets::send_line(peer.socket, line);
}

void Watch::lose(int64_t rank, const std::string& why) {
  if (lost_ || leaving_) return;
  const std::string who = "rank " + std::to_string(rank);
  lost_ = "[" + who + "] " + (rank == rank_ ? "the others have given this rank up: " : "this rank is lost: ") + why +
          "; continue the run from its last checkpoint with --resume";
  lost_at_ = Clock::now();
  if (rank_ == 0) tell("lost " + std::to_string(rank) + " " + why);
  news_.notify_all();
}

void Watch::check() const {
  const std::lock_guard lock(mutex_);
  if (lost_) throw Error(ExitCode::kPeerLost, *lost_);
}

void Watch::check_after_failure() const {
  std::unique_lock lock(mutex_);
  news_.wait_for(lock, kNewsTakes, [&] { return lost_.has_value(); });
  if (lost_) throw Error(ExitCode::kPeerLost, *lost_);
}

bool Watch::all_is_well() const {
  const std::lock_guard lock(mutex_);
  return !lost_ && !failed_;
}

void Watch::fail(const std::string& why) noexcept {
  const std::lock_guard lock(mutex_);
  if (leaving_ || lost_) return;  // who ends because of another one is still held to its time
  leaving_ = failed_ = true;
  const std::string reason = one_line(why);
  tell(rank_ == 0 ? "lost 0 it gave up: " + reason : "fail " + reason);
}

void Watch::leave() noexcept {
  const std::lock_guard lock(mutex_);
  if (!leaving_ && !lost_) tell("bye");
  leaving_ = true;
}

}  // namespace vlmamba
