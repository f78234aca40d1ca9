#pragma once

#include <cstddef>
#include <functional>

namespace vlmamba::emulation {

/// A stack of its own on which a function runs piece by piece. Known to AddressSanitizer. x86-64 only.
class Fibre {
 public:
  Fibre();
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  /// Will call `body` from its beginning; what ran before is forgotten, and its objects are not destroyed.
  void start(std::function<void()> body);
  /// Runs until the next pause(), or until `body` has returned: then gives false. Not from within a fibre.
  bool resume();
  /// From within the fibre that runs: back to resume().
  static void pause();

  /// Whether this engine, and with it the kernels, are built with AddressSanitizer.
  static bool sanitized();

 private:
  static void enter();
  void leave();

  char* memory_;  // a guard page, then the stack
  void* stack_pointer_ = nullptr;
  bool finished_ = true;
  std::function<void()> body_;
};

}  // namespace vlmamba::emulation
