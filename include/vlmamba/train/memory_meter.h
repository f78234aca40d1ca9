#pragma once

#include <cstdint>

namespace vlmamba {

/// While one lives, counts the bytes of the tensors that are made on the CPU, on all threads. One at a time.
class MemoryMeter {
 public:
  MemoryMeter();
  ~MemoryMeter();
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;

  /// Of the tensors that are alive, and the most that ever were since the meter began.
  int64_t now() const;
  int64_t peak() const;
};

}  // namespace vlmamba
