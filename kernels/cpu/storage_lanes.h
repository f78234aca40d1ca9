#pragma once

// Lanes from and to memory in each of the types of storage.h: narrow ones are widened exactly and rounded to nearest,
// ties to even.

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/storage.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

typedef uint16_t NarrowLanes __attribute__((vector_size(kLanes * sizeof(uint16_t))));
typedef int32_t SignedLanes __attribute__((vector_size(kLanes * sizeof(int32_t))));

template <typename To, typename From>
To reinterpret(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  memcpy(&to, &from, sizeof to);
  return to;
}

inline IntegerLanes load_bits(const void* from, int64_t width) {
  NarrowLanes bits{};
  memcpy(&bits, from, width == kLanes ? sizeof bits : static_cast<size_t>(width) * sizeof(uint16_t));
  return __builtin_convertvector(bits, IntegerLanes);
}
inline void store_bits(void* to, IntegerLanes lanes, int64_t width) {
  const NarrowLanes bits = __builtin_convertvector(lanes, NarrowLanes);
  memcpy(to, &bits, width == kLanes ? sizeof bits : static_cast<size_t>(width) * sizeof(uint16_t));
}

inline Lanes<float> load(const BFloat16* from, int64_t width) {
  return reinterpret<Lanes<float>>(load_bits(from, width) << 16);
}
inline void store(BFloat16* to, Lanes<float> lanes, int64_t width) {
  const auto bits = reinterpret<IntegerLanes>(lanes);
  const IntegerLanes quiet_nan = IntegerLanes{} + 0x7fc0, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  store_bits(to, (bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded, width);
}

inline Lanes<float> load(const Half* from, int64_t width) {
  const IntegerLanes bits = load_bits(from, width), magnitude = bits & 0x7fff;
  const IntegerLanes normal = (magnitude << 13) + (112u << 23), special = magnitude << 13 | 0x7f800000u;
  // Below 2^-14 the bits count steps of 2^-24.
  const Lanes<float> small = __builtin_convertvector(reinterpret<SignedLanes>(magnitude), Lanes<float>) * 0x1p-24f;
  const IntegerLanes wide = magnitude < 0x400    ? reinterpret<IntegerLanes>(small)
                            : magnitude < 0x7c00 ? normal
                                                 : special;
  return reinterpret<Lanes<float>>(wide | (bits & 0x8000) << 16);
}
inline void store(Half* to, Lanes<float> lanes, int64_t width) {
  const auto bits = reinterpret<IntegerLanes>(lanes);
  const IntegerLanes magnitude = bits & 0x7fffffff, quiet_nan = IntegerLanes{} + 0x7e00,
                     infinity = IntegerLanes{} + 0x7c00;
  const IntegerLanes shifted = magnitude - (112u << 23), normal = (shifted + 0xfff + (shifted >> 13 & 1)) >> 13;
  // Beside 0.5 the steps of floats are 2^-24: the addition rounds.
  const Lanes<float> beside = reinterpret<Lanes<float>>(magnitude) + 0.5f;
  const IntegerLanes small = reinterpret<IntegerLanes>(beside) - 0x3f000000;
  IntegerLanes narrow = magnitude < 0x38800000 ? small : magnitude < 0x477ff000 ? normal : infinity;
  narrow = magnitude > 0x7f800000 ? quiet_nan : narrow;
  store_bits(to, narrow | (bits >> 16 & 0x8000), width);
}

// The sum of all lanes, in an order of its own.
template <typename V>
auto sum_of(V lanes) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
