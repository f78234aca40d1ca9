#include "vlmamba/study/children.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "vlmamba/core/error.h"

extern char** environ;

namespace vlmamba::study {
namespace {

ChildEnd end_of(int status) {
  if (WIFSIGNALED(status)) return {128 + WTERMSIG(status), WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

// Only calls that are safe between fork and exec in a program with threads.
[[noreturn]] void become(char* const* arguments, char* const* environment, int output, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(128 + SIGTERM);  // it ended before it could be watched
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, SIG_DFL);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execve(arguments[0], arguments, environment);
  ::_exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The caller's own choice of threads stands.
std::vector<std::string> environment_with(int threads) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry; ++entry) environment.emplace_back(*entry);
  if (threads > 0 && std::getenv("OMP_NUM_THREADS") == nullptr)
    environment.push_back("OMP_NUM_THREADS=" + std::to_string(threads));
  return environment;
}

}  // namespace

Child::Child(const ChildCommand& command) : pid_(-1) {
  auto arguments = command.arguments, environment = environment_with(command.threads);
  const auto argument_pointers = pointers(arguments), environment_pointers = pointers(environment);
  const int output = ::open(command.output.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
  if (output < 0)
    throw Error(ExitCode::kIo, command.output, std::string("expected to write here, got: ") + std::strerror(errno));
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(argument_pointers.data(), environment_pointers.data(), output, parent);
  ::close(output);
  if (pid_ < 0)
    throw Error(ExitCode::kIo, arguments[0], std::string("expected to start a process, got: ") + std::strerror(errno));
}

Child::~Child() {
  if (pid_ <= 0) return;
  stop();
  wait();
}

bool Child::poll(ChildEnd& end) {
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
  pid_ = -1;
  end = end_of(status);
  return true;
}

ChildEnd Child::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
  return end_of(status);
}

void Child::stop() const { ::kill(pid_, SIGTERM); }

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

}  // namespace vlmamba::study
