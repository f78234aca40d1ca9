#pragma once

// Stands in for kernels/cuda/device.h where kernels are compiled for the CPU (engine.h): the same names, no CUDA
// header.

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/emulated_cuda/engine.h"

using __half = c10::Half;
using __nv_bfloat16 = c10::BFloat16;
using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define threadIdx (vlmamba::emulation::position->thread)
#define blockIdx (vlmamba::emulation::position->block)
#define blockDim (vlmamba::emulation::position->block_size)
#define gridDim (vlmamba::emulation::position->grid_size)

using std::max;
using std::min;

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  vlmamba::emulation::wait_for_block(where);
}
inline void __syncwarp(unsigned mask = ~0u, std::source_location where = std::source_location::current()) {
  vlmamba::emulation::ballot(mask, false, "__syncwarp", where);
}
inline unsigned __ballot_sync(unsigned mask, int flag, std::source_location where = std::source_location::current()) {
  return vlmamba::emulation::ballot(mask, flag != 0, "__ballot_sync", where);
}
inline int __any_sync(unsigned mask, int flag, std::source_location where = std::source_location::current()) {
  return vlmamba::emulation::ballot(mask, flag != 0, "__any_sync", where) != 0;
}

namespace vlmamba::emulation {

template <class T>
T shuffle(unsigned mask, T value, int source, const char* operation, const Location& where) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, source, operation, where);
  std::memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return value;
}

}  // namespace vlmamba::emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              std::source_location where = std::source_location::current()) {
  namespace e = vlmamba::emulation;
  return e::shuffle(mask, value, e::shuffle_source('=', lane, width), "__shfl_sync", where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  std::source_location where = std::source_location::current()) {
  namespace e = vlmamba::emulation;
  return e::shuffle(mask, value, e::shuffle_source('^', lane_mask, width), "__shfl_xor_sync", where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 std::source_location where = std::source_location::current()) {
  namespace e = vlmamba::emulation;
  return e::shuffle(mask, value, e::shuffle_source('-', static_cast<int>(delta), width), "__shfl_up_sync", where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   std::source_location where = std::source_location::current()) {
  namespace e = vlmamba::emulation;
  return e::shuffle(mask, value, e::shuffle_source('+', static_cast<int>(delta), width), "__shfl_down_sync", where);
}

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}

namespace vlmamba::cuda {

template <class T>
using MathType = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t dynamic_shared_bytes, cudaStream_t,
                   A&&... arguments) {
  const std::tuple<P...> copies(std::forward<A>(arguments)...);
  const bool taken = emulation::run({grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, dynamic_shared_bytes,
                                    [&] { std::apply(kernel, copies); });
  return taken ? cudaSuccess : cudaErrorInvalidConfiguration;
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::dynamic_shared_memory());
}

inline float to_math(float x) { return x; }
inline double to_math(double x) { return x; }
inline float to_math(__half x) { return x; }
inline float to_math(__nv_bfloat16 x) { return x; }

template <class T>
T from_math(MathType<T> x) {
  return static_cast<T>(x);
}

inline float exp2_approx(float x) { return std::exp2(x); }
inline float log2_approx(float x) { return std::log2(x); }
inline float reciprocal_approx(float x) { return 1 / x; }
inline double exp2_approx(double x) { return std::exp2(x); }
inline double log2_approx(double x) { return std::log2(x); }
inline double reciprocal_approx(double x) { return 1 / x; }

inline void copy_async_16(void* shared, const void* global) { emulation::copy_async_16(shared, global); }
inline void commit_copies() { emulation::commit_copies(); }
template <int kLeft>
void wait_copies() {
  emulation::wait_copies(kLeft);
}

}  // namespace vlmamba::cuda
