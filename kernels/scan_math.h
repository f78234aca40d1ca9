#pragma once

// One recurrence step's mathematics, shared by all devices. Plain C++ that a compiler can vectorise.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace vlmamba {
namespace {

// exp with a relative error below 3e-7: exactly 0 below -87.3, infinity above 88.7, NaN for NaN.
inline float fast_exp(float x) {
  float clamped = x < -87.3f ? -87.3f : x;
  clamped = clamped > 88.7f ? 88.7f : clamped;
  const float shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the integer part in the low bits
  const float whole = shifted - 12582912.0f;
  const float f = (clamped - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float p = 1.0f / 720.0f;
  p = p * f + 1.0f / 120.0f;
  p = p * f + 1.0f / 24.0f;
  p = p * f + 1.0f / 6.0f;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4b400000 + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  float result = p * scale;
  result = x < -87.3f ? 0.0f : result;
  return x > 88.7f ? INFINITY : result;
}
inline double fast_exp(double x) { return std::exp(x); }

// log(1 + exp(x)); x itself above 20, as PyTorch and mamba_ssm do.
template <typename T>
inline T softplus(T x) {
  return x > T(20) ? x : std::log1p(std::exp(x));
}
template <typename T>
inline T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

}  // namespace
}  // namespace vlmamba
