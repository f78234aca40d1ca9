#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace vlmamba::study {

/// A program to be run in a process of its own.
struct ChildCommand {
  std::vector<std::string> arguments;  ///< the first is the program's path
  std::string output;                  ///< file that stdout and stderr are appended to
  int threads = 0;                     ///< of OpenMP, where OMP_NUM_THREADS does not say; 0: as many as it likes
};

/// How a child ended.
struct ChildEnd {
  int code = 0;    ///< exit code, or 128 + signal
  int signal = 0;  ///< that ended it; 0: none
};

/// One child process. It is told to stop in good order (SIGTERM) when this process ends, however that comes about.
class Child {
 public:
  /// Throws Error (kIo) if no process could be made; a program that cannot be run ends with code 127.
  explicit Child(const ChildCommand& command);
  ~Child();
  Child(Child&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  Child& operator=(Child&&) = delete;

  /// Has it ended? Does not wait.
  bool poll(ChildEnd& end);
  /// Waits for its end.
  ChildEnd wait();
  /// Asks it to stop in good order.
  void stop() const;

 private:
  pid_t pid_;
};

/// The path of this very program, whatever it was called by.
std::string own_program();

}  // namespace vlmamba::study
