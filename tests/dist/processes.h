#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

// Runs of several processes on this machine, with the variables that torchrun would set.
namespace vlmamba::test {

inline int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

/// The ranks of one run, killed with the test.
class Processes {
 public:
  struct End {
    int code = -1;  ///< minus the signal, where one ended it
    double seconds = 0;
    std::string err;
  };

  /// Every rank runs the same command; `own(rank)` is appended.
  template <typename Own>
  Processes(int size, const std::vector<std::string>& command, const Own& own) : folder_(make_folder()) {
    const std::string port = std::to_string(free_port());
    for (int rank = 0; rank < size; ++rank) {
      std::vector<std::string> arguments = command;
      for (const std::string& argument : own(rank)) arguments.push_back(argument);
      processes_.push_back(start(arguments, rank, size, port));
    }
  }
  Processes(int size, const std::vector<std::string>& command)
      : Processes(size, command, [](int) { return std::vector<std::string>(); }) {}

  ~Processes() {
    for (size_t rank = 0; rank < processes_.size(); ++rank)
      if (processes_[rank] > 0) {
        ::kill(processes_[rank], SIGKILL);
        ::waitpid(processes_[rank], nullptr, 0);
      }
    std::filesystem::remove_all(folder_);
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  void signal(int rank, int which) const { ::kill(processes_.at(static_cast<size_t>(rank)), which); }

  /// Waits until the rank has said this.
  bool says(int rank, const std::string& words, double seconds = 60) const {
    for (const auto start = now(); now() - start < seconds; pause())
      if (err(rank).find(words) != std::string::npos) return true;
    return false;
  }

  /// Waits for the end of a rank; the code is -1000 where it does not come.
  End end(int rank, double seconds = 120) {
    pid_t& process = processes_.at(static_cast<size_t>(rank));
    const auto start = now();
    int status = 0;
    while (::waitpid(process, &status, WNOHANG) == 0) {
      if (now() - start > seconds) return {-1000, seconds, err(rank)};
      pause();
    }
    process = 0;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), now() - start, err(rank)};
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

  static std::string make_folder() {
    std::string name = testing::TempDir() + "vlmamba-ranks-XXXXXX";
    return ::mkdtemp(name.data());
  }

  std::string err(int rank) const {
    std::ifstream file(folder_ + "/" + std::to_string(rank));
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  pid_t start(std::vector<std::string>& arguments, int rank, int size, const std::string& port) const {
    const std::string own = std::to_string(rank), output = folder_ + "/" + own;
    std::vector<std::string> variables{
        "RANK=" + own,           "LOCAL_RANK=" + own,   "WORLD_SIZE=" + std::to_string(size),
        "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port, "OMP_NUM_THREADS=1"};
    for (char** inherited = environ; *inherited; ++inherited) variables.emplace_back(*inherited);
    std::vector<char*> argv, envp;
    for (auto& argument : arguments) argv.push_back(argument.data());
    for (auto& variable : variables) envp.push_back(variable.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    std::fflush(stdout);  // else it is written twice
    const pid_t process = ::fork();
    if (process != 0) return process;
    if (!::freopen(output.c_str(), "w", stderr) || !::freopen("/dev/null", "w", stdout)) ::_exit(126);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }

  std::string folder_;
  std::vector<pid_t> processes_;
};

}  // namespace vlmamba::test
