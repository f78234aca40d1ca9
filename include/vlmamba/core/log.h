#pragma once

#include <cstdint>
#include <string>

namespace vlmamba::log {

/// A line for the user: to stderr, and with date and time to the file, if one is set.
void info(const std::string& line);
void warn(const std::string& line);

/// Appends everything that follows to `path` too; empty: to no file. Throws Error (kIo) if it cannot be opened. A full
/// disk stops nothing: lines that it refuses come later.
void set_file(const std::string& path);

/// From here on only warnings go to stderr, behind `prefix`, and no progress: for all processes of a run but the first.
void quieten(const std::string& prefix);

/// Shows how far long work is: on a terminal one line that is rewritten, in a file a plain line every few seconds.
class Progress {
 public:
  /// `total` steps of the work called `name`; `done` of them are done already.
  Progress(std::string name, int64_t total, int64_t done = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `note` says more, e.g. the loss. The last step is always shown.
  void update(int64_t done, const std::string& note);

 private:
  std::string name_;
  int64_t total_, first_;
  double start_, shown_;
  bool terminal_, open_ = false;
};

}  // namespace vlmamba::log
