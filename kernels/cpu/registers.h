#pragma once

// One register of channels, and the mathematics of the scans on it, for the files that are compiled once per
// instruction set (VLMAMBA_PATH = baseline | avx2 | avx512; VLMAMBA_REGISTER_BYTES = 16 | 32 | 64). They include no
// header whose inline functions other files also use, so that no code of one instruction set serves another.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <utility>

#include "kernels/cpu/scan_lanes.h"
#include "kernels/cpu/scratch.h"
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

#include "instructions.h"  // of this instruction set: exp2_of, product_rest, Mask, half precision

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// 2^x in fp64, lane by lane.
inline Register<double> exp2_of(Register<double> x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = exp2(x[i]);
  return x;
}

// e^x to fp32 rounding for every x of at most 0, and NaN for NaN. What the product with log2(e) rounds off comes back
// as a factor, so that large x lose nothing.
inline Register<float> exp_of_negative(Register<float> x) {
  const Register<float> least = Register<float>{} - 104.0f, log2e = Register<float>{} + 1.44269502f;
  x = x < least ? least : x;
  const Register<float> power = x * log2e, rest = product_rest(x, log2e, power) + x * 1.92596300e-8f;
  const Register<float> e = exp2_of(power);
  return e + e * (rest * 0.693147181f);
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
  const Register<float> e2 = e * e, e4 = e2 * e2, e8 = e4 * e4;  // all at once, not one after another
  const Register<float> p01 = e * -0.499999327637f + 1.0f, p23 = e * -0.249585873967f + 0.333305113201f,
                        p45 = e * -0.153553955169f + 0.196954003278f, p67 = e * -0.057664426689f + 0.106805539447f,
                        p89 = e * -0.003318470033f + 0.020204574578f;
  const Register<float> p = (p01 + p23 * e2) + (p45 + p67 * e2) * e4 + p89 * e8;
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

// A few numbers, of which registers hold parts, in the arithmetic's type.
template <typename M>
inline M number(M x) {
  return x;
}
inline float number(BFloat16 x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float number(Half x) {
  const uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const float finite = bits_as<float>(magnitude) * 0x1p112f;  // moves the exponent, of subnormal numbers too
  const uint32_t bits = (x.bits & 0x7c00u) == 0x7c00u ? magnitude | 0x7f800000u : bits_as<uint32_t>(finite);
  return bits_as<float>(bits | (x.bits & 0x8000u) << 16);
}
template <int kCount, typename T>
inline void widen(const T* from, Math<T>* to) {
  if constexpr (kCount >= kWidth<Math<T>>)
    for (int i = 0; i < kCount; i += kWidth<Math<T>>) store_all(to + i, load_all(from + i));
  else
    for (int i = 0; i < kCount; ++i) to[i] = number(from[i]);
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

// Adds neighbouring pieces of kPiece lanes in each stretch of kStretch lanes: those of x, then those of y.
template <typename M, int kPiece, int kStretch, int... i>
inline Register<M> add_neighbours(Register<M> x, Register<M> y, std::integer_sequence<int, i...>) {
  constexpr auto source = [](int lane, int odd) {
    const int half = kStretch / 2, at = lane % kStretch, first = lane - at;
    const int piece = at % half / kPiece * 2 + odd;
    return (at < half ? 0 : kWidth<M>)+first + piece * kPiece + at % kPiece;
  };
  return __builtin_shufflevector(x, y, source(i, 0)...) + __builtin_shufflevector(x, y, source(i, 1)...);
}

// Adds the sum over the lanes of each of `terms` to one element of `to`: a transposition that adds as it goes, first
// within 16 bytes, then across them.
template <typename M, int kCount>
inline void add_lane_sums(Register<M> (&terms)[kCount], M* to) {
  constexpr int w = kWidth<M>, size = kCount < w ? kCount : w, piece = 16 / sizeof(M);
  constexpr std::make_integer_sequence<int, w> lanes;
#pragma GCC unroll 16
  for (int first = 0; first < kCount; first += size) {
    Register<M>* v = terms + first;
    int left = size;
#pragma GCC unroll 16
    for (int level = 1; level < piece; level *= 2) {
#pragma GCC unroll 16
      for (int j = 0; j < (left + 1) / 2; ++j)
        v[j] = add_neighbours<M, 1, piece>(v[2 * j], v[left > 1 ? 2 * j + 1 : 2 * j], lanes);
      left = (left + 1) / 2;
    }
    if constexpr (w > piece)
#pragma GCC unroll 16
      for (int level = piece; level < w; level *= 2) {
#pragma GCC unroll 16
        for (int j = 0; j < (left + 1) / 2; ++j)
          v[j] = add_neighbours<M, piece, w>(v[2 * j], v[left > 1 ? 2 * j + 1 : 2 * j], lanes);
        left = (left + 1) / 2;
      }
    for (int j = 0; j < size; ++j) to[first + j] += v[0][j];
  }
}

// Uninitialised memory, aligned to cache lines, that frees itself; std::vector would be shared code.
template <typename T>
class Memory {
 public:
  explicit Memory(int64_t count) : data_(static_cast<T*>(scratch(static_cast<size_t>(count) * sizeof(T)))) {}
  ~Memory() { free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
