#pragma once

// What AVX2, FMA and F16C have instructions for; included by registers.h.

#include <immintrin.h>

#include "kernels/cpu/bit_masks.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int kForwardStates = 8, kBackwardStates = 4;  // states that the registers hold beside what a step needs

// 2^(j/8) for j = 0 .. 7.
alignas(32) constexpr float kRoots[8] = {1.0f,        1.09050775f, 1.18920708f, 1.29683959f,
                                         1.41421354f, 1.54221082f, 1.68179286f, 1.8340081f};

// 2^x with a relative error below 1.2e-7 for x of kLeastPower .. 127.5, with 1 at 0, 0 at its lower end, infinity
// above, and NaN for NaN: the minimum and maximum instructions give their second operand where one is NaN. A whole
// number of eighths is taken out of x, its power comes from a table and the exponent, that of the rest f, |f| <= 1/16,
// from a polynomial with an error of 2.6e-8.
inline Register<float> exp2_of(Register<float> x) {
  x = _mm256_min_ps(_mm256_set1_ps(kMostPower), _mm256_max_ps(_mm256_set1_ps(kLeastPower), x));
  const Register<float> shifted = x + 1572991.0f;  // 1.5 * 2^23 / 8 + 127: 8 (x + 127) in the low bits
  const Register<float> f = x - (shifted - 1572991.0f);
  const Register<float> root = _mm256_permutevar8x32_ps(_mm256_load_ps(kRoots), _mm256_castps_si256(shifted));
  const Register<float> power = root * f * ((f * 5.551147e-2f + 2.4025764e-1f) * f + 6.931472e-1f) + root;
  return power * bits_as<Register<float>>((bits_as<Bits>(shifted) << 20) & 0xff800000u);
}

// What xy, the rounded product, lacks.
inline Register<float> product_rest(Register<float> x, Register<float> y, Register<float> xy) {
  return _mm256_fmsub_ps(x, y, xy);
}

inline Register<float> load_all(const Half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline void store_all(Half* to, Register<float> x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
