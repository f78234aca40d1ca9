#include "src/dist/sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "vlmamba/core/error.h"

namespace vlmamba::sockets {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw Error(ExitCode::kPeerLost, "ranks", "expected to " + what + ", got: " + std::strerror(errno));
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

bool readable_until(const Socket& socket, Clock::time_point deadline) {
  pollfd wanted{socket.get(), POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&wanted, 1, milliseconds_until(deadline));
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

void send_at_once(const Socket& socket) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

std::optional<Socket> try_connect(const std::string& host, int64_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) return std::nullopt;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, ::freeaddrinfo);
  for (const addrinfo* one = list; one; one = one->ai_next) {
    Socket socket(::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol));
    if (socket.get() >= 0 && ::connect(socket.get(), one->ai_addr, one->ai_addrlen) == 0) return socket;
  }
  return std::nullopt;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Socket::~Socket() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Socket listen_anywhere(int64_t& port) {
  Socket socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  const int off = 0;
  bool bound = socket.get() >= 0 && ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 &&
               ::bind(socket.get(), reinterpret_cast<sockaddr*>(&any6), sizeof any6) == 0;
  if (!bound) {  // a machine without IPv6
    socket = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    bound = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&any4), sizeof any4) == 0;
  }
  if (!bound || ::listen(socket.get(), SOMAXCONN) != 0) fail("listen for the other ranks");
  sockaddr_in6 address{};  // both kinds have the port in the same place
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) fail("learn the port");
  port = ntohs(address.sin6_port);
  return socket;
}

std::optional<Socket> accept_until(const Socket& listener, Clock::time_point deadline) {
  if (!readable_until(listener, deadline)) return std::nullopt;
  Socket socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (socket.get() < 0) fail("accept a rank");
  send_at_once(socket);
  return socket;
}

Socket connect_until(const std::string& host, int64_t port, Clock::time_point deadline) {
  for (;;) {
    if (auto socket = try_connect(host, port)) {
      send_at_once(*socket);
      return std::move(*socket);
    }
    if (Clock::now() >= deadline) fail("reach rank 0 at " + host + ":" + std::to_string(port));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

std::string local_address(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST];
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0)
    fail("learn this machine's address");
  const std::string text = host;
  constexpr std::string_view kMapped = "::ffff:";  // IPv4, seen by an IPv6 socket
  return text.starts_with(kMapped) ? text.substr(kMapped.size()) : text;
}

bool is_loopback(const std::string& address) { return address.starts_with("127.") || address == "::1"; }

bool send_line(const Socket& socket, const std::string& line) {
  const std::string bytes = line + "\n";
  return ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(bytes.size());
}

bool receive(const Socket& socket, std::string& bytes) {
  char buffer[4096];
  for (;;) {
    const ssize_t count = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (count > 0) bytes.append(buffer, static_cast<size_t>(count));
    if (count == 0) return false;
    if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
  }
}

std::optional<std::string> take_line(std::string& bytes) {
  const size_t end = bytes.find('\n');
  if (end == std::string::npos) return std::nullopt;
  const std::string line = bytes.substr(0, end);
  bytes.erase(0, end + 1);
  return line;
}

std::optional<std::string> receive_line(const Socket& socket, std::string& bytes, Clock::time_point deadline) {
  for (;;) {
    if (auto line = take_line(bytes)) return line;
    if (!readable_until(socket, deadline) || !receive(socket, bytes)) return take_line(bytes);
  }
}

}  // namespace vlmamba::sockets
