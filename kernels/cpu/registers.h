#pragma once

// One register of channels, and the mathematics of the scans on it, for the files that are compiled once per
// instruction set (VLMAMBA_PATH = baseline | avx2 | avx512; VLMAMBA_REGISTER_BYTES = 16 | 32 | 64). They include no
// header whose inline functions other files also use, so that no code of one instruction set serves another.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <utility>

#include "kernels/cpu/scan_lanes.h"
#include "kernels/scan_math.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

template <typename M>
struct RegisterOf;
template <>
struct RegisterOf<float> {
  typedef float type __attribute__((vector_size(VLMAMBA_REGISTER_BYTES)));
};
template <>
struct RegisterOf<double> {
  typedef double type __attribute__((vector_size(VLMAMBA_REGISTER_BYTES)));
};
template <typename M>
using Register = typename RegisterOf<M>::type;
typedef uint32_t Bits __attribute__((vector_size(VLMAMBA_REGISTER_BYTES)));
typedef uint16_t HalfBits __attribute__((vector_size(VLMAMBA_REGISTER_BYTES / 2)));

template <typename M>
constexpr int kWidth = VLMAMBA_REGISTER_BYTES / sizeof(M);

template <typename To, typename From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH

#include "instructions.h"  // of this instruction set: exp2_of, times_power_of_two, Mask, half precision

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// 2^x in fp64, lane by lane.
inline Register<double> exp2_of(Register<double> x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = exp2(x[i]);
  return x;
}

// e^x to fp32 rounding for every x of at most 0, and NaN for NaN: the whole powers of two are taken out before x is
// multiplied by log2(e), so that large x lose nothing.
inline Register<float> exp_of_negative(Register<float> x) {
  const Register<float> least = Register<float>{} - 104.0f, magic = Register<float>{} + 12582912.0f;  // 1.5 * 2^23
  x = x < least ? least : x;
  const Register<float> k = (x * 1.44269504f + magic) - magic;
  const Register<float> rest = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  return times_power_of_two(exp2_of(rest * 1.44269504f), k);
}
inline Register<double> exp_of_negative(Register<double> x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = exp(x[i]);
  return x;
}

template <typename M>
inline Register<M> sigmoid_of(Register<M> x) {
  const Register<M> zero{}, one = zero + 1, e = exp_of_negative(x > zero ? -x : x);
  return (x > zero ? one : e) / (one + e);
}

// log(1 + e^x) and its derivative; in fp64 as PyTorch, x itself above 20, which is what fp32 rounds to.
// log1p(e) / e on [0, 1] is a polynomial with a relative error of 5e-9, so that very negative x keep theirs.
inline Register<float> softplus(Register<float> x, Register<float>& slope) {
  const Register<float> zero{}, one = zero + 1, e = exp_of_negative(x > zero ? -x : x);
  slope = (x > zero ? one : e) / (one + e);
  Register<float> p = e * -0.003318470033f + 0.020204574578f;
  p = p * e - 0.057664426689f;
  p = p * e + 0.106805539447f;
  p = p * e - 0.153553955169f;
  p = p * e + 0.196954003278f;
  p = p * e - 0.249585873967f;
  p = p * e + 0.333305113201f;
  p = p * e - 0.499999327637f;
  p = p * e + 1.0f;
  return p * e + (x > zero ? x : zero);
}
inline Register<double> softplus(Register<double> x, Register<double>& slope) {
  for (int i = 0; i < kWidth<double>; ++i) {
    slope[i] = x[i] > 20 ? 1 : 1 / (1 + exp(-x[i]));
    x[i] = x[i] > 20 ? x[i] : log1p(exp(x[i]));
  }
  return x;
}

// A whole register of numbers in memory, in the arithmetic's type and back, rounded to nearest even.
template <typename M>
inline Register<M> load_all(const M* from) {
  Register<M> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
inline Register<float> load_all(const BFloat16* from) {
  HalfBits bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return bits_as<Register<float>>(__builtin_convertvector(bits, Bits) << 16);
}
template <typename M>
inline void store_all(M* to, Register<M> x) {
  __builtin_memcpy(to, &x, sizeof x);
}
inline void store_all(BFloat16* to, Register<float> x) {
  const Bits bits = bits_as<Bits>(x), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits chosen = x == x ? rounded : Bits{} + 0x7fc0u;
  const HalfBits narrow = __builtin_convertvector(chosen, HalfBits);
  __builtin_memcpy(to, &narrow, sizeof narrow);
}

// The first `width` lanes; those beyond are 0 and are never written.
template <typename T>
inline Register<Math<T>> load(const T* from, int64_t width) {
  if (width == kWidth<Math<T>>) return load_all(from);
  T buffer[kWidth<Math<T>>] = {};
  memcpy(buffer, from, static_cast<size_t>(width) * sizeof(T));
  return load_all(buffer);
}
template <typename T>
inline void store(T* to, Register<Math<T>> x, int64_t width) {
  if (width == kWidth<Math<T>>) return store_all(to, x);
  T buffer[kWidth<Math<T>>];
  store_all(buffer, x);
  memcpy(to, buffer, static_cast<size_t>(width) * sizeof(T));
}

// [width, N] in memory <-> N registers.
template <typename M>
inline void load_by_state(Register<M>* to, const M* from, int64_t width, int64_t states) {
  for (int64_t n = 0; n < states; ++n) {
    M lanes[kWidth<M>] = {};
    for (int64_t i = 0; i < width; ++i) lanes[i] = from[i * states + n];
    to[n] = load_all(lanes);
  }
}
template <typename M>
inline void store_by_state(M* to, const Register<M>* from, int64_t width, int64_t states) {
  for (int64_t n = 0; n < states; ++n) {
    M lanes[kWidth<M>];
    store_all(lanes, from[n]);
    for (int64_t i = 0; i < width; ++i) to[i * states + n] = lanes[i];
  }
}

// x + (x with neighbours at distance kStep exchanged), for two registers at once: lanes i with i & kStep hold y's sums,
// the others x's.
template <typename M, int kStep, int... i>
inline Register<M> add_pairs(Register<M> x, Register<M> y, std::integer_sequence<int, i...>) {
  constexpr int w = kWidth<M>;
  return __builtin_shufflevector(x, y, (i & kStep ? w + i : i)...) +
         __builtin_shufflevector(x, y, (i & kStep ? w + (i ^ kStep) : i ^ kStep)...);
}

// Adds the sum over the lanes of each of `terms` to one element of `to`: a transposition that adds as it goes.
template <typename M, int kCount>
inline void add_lane_sums(Register<M> (&terms)[kCount], M* to) {
  constexpr int w = kWidth<M>, size = kCount < w ? kCount : w;
  constexpr std::make_integer_sequence<int, w> lanes;
#pragma GCC unroll 16
  for (int first = 0; first < kCount; first += size) {
    Register<M>* v = terms + first;
    if constexpr (size >= 16)
      for (int j = 0; j < 8; ++j) v[j] = add_pairs<M, 8>(v[j], v[j + 8], lanes);
    if constexpr (size >= 8)
      for (int j = 0; j < 4; ++j) v[j] = add_pairs<M, 4>(v[j], v[j + 4], lanes);
    if constexpr (size >= 4)
      for (int j = 0; j < 2; ++j) v[j] = add_pairs<M, 2>(v[j], v[j + 2], lanes);
    if constexpr (size >= 2) v[0] = add_pairs<M, 1>(v[0], v[1], lanes);
    if constexpr (size <= 8 && w >= 16) v[0] = add_pairs<M, 8>(v[0], v[0], lanes);
    if constexpr (size <= 4 && w >= 8) v[0] = add_pairs<M, 4>(v[0], v[0], lanes);
    if constexpr (size <= 2 && w >= 4) v[0] = add_pairs<M, 2>(v[0], v[0], lanes);
    if constexpr (size == 1 && w >= 2) v[0] = add_pairs<M, 1>(v[0], v[0], lanes);
    for (int j = 0; j < size; ++j) to[first + j] += v[0][j];
  }
}

// Uninitialised memory, aligned to cache lines, that frees itself; std::vector would be shared code.
template <typename T>
class Memory {
 public:
  explicit Memory(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 128) / 128 * 128;
    data_ = static_cast<T*>(aligned_alloc(128, bytes));
    if (data_ == nullptr) abort();
  }
  ~Memory() { free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
