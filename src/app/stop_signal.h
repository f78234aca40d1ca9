#pragma once

#include <map>

namespace vlmamba::app {

/// While it lives, the first of these signals asks for an end in good order, which the program looks out for; the
/// second ends the program at once. One at a time.
class StopSignal {
 public:
  /// SIGTERM, SIGINT, and SIGHUP, where it is not ignored (nohup).
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  static bool received();

 private:
  std::map<int, void (*)(int)> before_;  // by signal
};

}  // namespace vlmamba::app
