#pragma once

// Neighbouring channels that one thread reads and writes together.

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T values[kCount];
};

/// kCount elements by one access; `from` is aligned to as many.
template <int kCount, class T>
__device__ __forceinline__ Pack<T, kCount> fetch(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}

template <int kCount, class T>
__device__ __forceinline__ void unpack(const Pack<T, kCount>& pack, MathType<T> (&to)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = to_math(pack.values[i]);
}

/// to[i] = from[i], in the type of the arithmetic.
template <int kCount, class T>
__device__ __forceinline__ void load(const T* from, MathType<T> (&to)[kCount]) {
  unpack(fetch<kCount>(from), to);
}

template <int kCount, class T>
__device__ __forceinline__ void store(T* to, const MathType<T> (&from)[kCount]) {
  Pack<T, kCount> pack;
#pragma unroll
  for (int i = 0; i < kCount; ++i) pack.values[i] = from_math<T>(from[i]);
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}

template <int kCount, class Math>
__device__ __forceinline__ void fill(Math (&values)[kCount], Math value) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = value;
}

/// Whether rows of `channels` elements can be read `count` at a time from all of these addresses (null: not there).
inline bool fits_vectors(int count, size_t element_size, int64_t channels,
                         std::initializer_list<const void*> addresses) {
  if (channels % count != 0) return false;
  for (const void* address : addresses)
    if (reinterpret_cast<uintptr_t>(address) % (element_size * static_cast<size_t>(count)) != 0) return false;
  return true;
}

}  // namespace vlmamba::cuda
