#pragma once

namespace vlmamba::app {

/// While it lives, the first of these signals asks for an end in good order, which the program looks out for; the
/// second ends the program at once. One at a time.
class StopSignal {
 public:
  /// SIGTERM and SIGINT.
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  static bool received();

 private:
  void (*before_term_)(int);
  void (*before_int_)(int);
};

}  // namespace vlmamba::app
