#pragma once

// Stands for a header of Gloo that LibTorch uses but does not ship. See src/dist/gloo.cpp.
#include <chrono>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds);
};
}  // namespace gloo
