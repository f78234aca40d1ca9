#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

// The little of TCP that the watch needs. Failures throw Error (peer lost).
namespace vlmamba::sockets {

using Clock = std::chrono::steady_clock;

/// A socket, closed with its owner.
class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

/// Listens on all addresses of this machine, at a port that the system chooses.
Socket listen_anywhere(int64_t& port);
/// The next connection, or none when the time is over.
std::optional<Socket> accept_until(const Socket& listener, Clock::time_point deadline);
/// Tries until the time is over.
Socket connect_until(const std::string& host, int64_t port, Clock::time_point deadline);
/// The numeric address of this end.
std::string local_address(const Socket& socket);
bool is_loopback(const std::string& address);

/// Sends a line without ever waiting; false if the other end does not take it whole.
bool send_line(const Socket& socket, const std::string& line);
/// Appends what has arrived; false once the other end is closed.
bool receive(const Socket& socket, std::string& bytes);
/// Waits for a line, and takes it out of `bytes`; none when the time is over or the other end is closed.
std::optional<std::string> receive_line(const Socket& socket, std::string& bytes, Clock::time_point deadline);
/// The next whole line of `bytes`.
std::optional<std::string> take_line(std::string& bytes);

}  // namespace vlmamba::sockets
