#pragma once

// Vectors of kLanes channels, one register of floats, for the files that are compiled once per instruction set with
// VLMAMBA_PATH = baseline | avx2 | avx512 and VLMAMBA_REGISTER_BYTES = 16 | 32 | 64. They include no header whose
// inline functions other files also use, so that no code of one instruction set serves another.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/scratch.h"
#include "kernels/scan_math.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int64_t kLanes = VLMAMBA_REGISTER_BYTES / sizeof(float);
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// kLanes numbers side by side. Wider than a register, as doubles are, they are taken apart one by one.
template <typename T>
struct LanesOf;
template <>
struct LanesOf<float> {
  typedef float type __attribute__((vector_size(kLanes * sizeof(float))));
};
template <>
struct LanesOf<double> {
  typedef double type __attribute__((vector_size(kLanes * sizeof(double))));
};
template <typename T>
using Lanes = typename LanesOf<T>::type;
typedef uint32_t IntegerLanes __attribute__((vector_size(kLanes * sizeof(uint32_t))));

inline Lanes<float> exp2_of(Lanes<float> x) { return fast_exp2<IntegerLanes>(x); }
inline Lanes<float> softplus(Lanes<float> x) { return fast_softplus<IntegerLanes>(x); }
inline Lanes<double> exp2_of(Lanes<double> x) {
  for (int64_t i = 0; i < kLanes; ++i) x[i] = exp2(x[i]);
  return x;
}
inline Lanes<double> softplus(Lanes<double> x) {
  for (int64_t i = 0; i < kLanes; ++i) x[i] = x[i] > 20 ? x[i] : log1p(exp(x[i]));
  return x;
}
template <typename V>
V sigmoid(V x) {
  return 1 / (1 + exp2_of(x * decltype(x[0] + 0)(-kLog2E)));
}

// A zeroed work area, aligned to cache lines, that frees itself; std::vector would be shared code.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : data_(static_cast<T*>(scratch(static_cast<size_t>(count) * sizeof(T)))) {
    memset(static_cast<void*>(data_), 0, static_cast<size_t>(count) * sizeof(T));
  }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* operator+(int64_t offset) const { return data_ + offset; }

 private:
  T* data_;
};

// Lanes beyond `width` are 0 and are never written.
template <typename T>
Lanes<T> load(const T* from, int64_t width) {
  Lanes<T> lanes{};
  if (width == kLanes)
    memcpy(&lanes, from, sizeof lanes);
  else
    for (int64_t i = 0; i < width; ++i) lanes[i] = from[i];
  return lanes;
}
template <typename T>
void store(T* to, Lanes<T> lanes, int64_t width) {
  if (width == kLanes)
    memcpy(to, &lanes, sizeof lanes);
  else
    for (int64_t i = 0; i < width; ++i) to[i] = lanes[i];
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
