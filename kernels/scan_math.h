#pragma once

// One recurrence step's mathematics, shared by all devices. V is float or double, or a vector of them (of GCC's and
// Clang's extension, where a comparison gives a mask and ?: selects).

#include <cmath>
#include <cstdint>

namespace vlmamba {
namespace {

constexpr double kLog2E = 1.44269504088896340736;

// 2^x of floats with a relative error below 2e-7: exactly 0 below -125, infinity above 128, NaN for NaN.
// I is the integer (vector) of the same size as V; `bits` and `value` reinterpret one as the other.
template <typename I, typename V>
inline V fast_exp2(V x) {
  const V least = V{} - 125.0f, most = V{} + 128.0f;
  V clamped = x < least ? least : x;
  clamped = clamped > most ? most : clamped;
  const V shifted = clamped + 12582912.0f;  // 1.5 * 2^23: the integer part in the low bits
  const V f = clamped - (shifted - 12582912.0f);
  V p = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  I bits, scale;
  __builtin_memcpy(&bits, &p, sizeof bits);
  __builtin_memcpy(&scale, &shifted, sizeof scale);
  bits += scale << 23;
  V result;
  __builtin_memcpy(&result, &bits, sizeof result);
  result = x < least ? V{} : result;
  return x >= most ? V{} + INFINITY : result;
}

// log(x) of floats of 1 or more that are finite (Cephes' logf).
template <typename I, typename V>
inline V fast_log(V x) {
  I bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  I exponent = (bits >> 23) - 127;
  bits = (bits & 0x007fffff) | 0x3f800000;
  V m;
  __builtin_memcpy(&m, &bits, sizeof m);
  const V root = V{} + 1.41421356f, one = V{} + 1.0f;
  V e = m > root ? one : V{};
  m = m > root ? m * 0.5f : m;
  I magic = exponent + 0x4b400000;
  V whole;
  __builtin_memcpy(&whole, &magic, sizeof whole);
  e += whole - 12582912.0f;
  const V f = m - 1.0f, z = f * f;
  V p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const V y = p * f * z - e * 2.12194440e-4f - z * 0.5f;
  return f + y + e * 0.693359375f;
}

// log(1 + exp(x)); x itself above 20, as PyTorch and mamba_ssm do.
template <typename I, typename V>
inline V fast_softplus(V x) {
  const V e = fast_exp2<I>(x * static_cast<float>(kLog2E)), u = e + 1.0f, rest = u - 1.0f;
  const V zero = V{}, one = zero + 1.0f;
  const V divisor = rest == zero ? one : rest;  // log(u) / (u - 1) is right where u is rounded (Kahan)
  const V log1p = rest == zero ? e : fast_log<I>(u) * (e / divisor);
  return x > zero + 20.0f ? x : x == x ? log1p : x;
}

}  // namespace
}  // namespace vlmamba
