#pragma once

// What AVX2, FMA and F16C have instructions for; included by registers.h.

#include <immintrin.h>

#include "kernels/cpu/exp2_by_bits.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int kForwardStates = 8, kBackwardStates = 4;  // states that the registers hold beside what a step needs

// The minimum and maximum instructions give their second operand where one is NaN.
inline Register<float> exp2_of(Register<float> x) {
  return exp2_by_bits(_mm256_min_ps(_mm256_set1_ps(kMostPower), _mm256_max_ps(_mm256_set1_ps(kLeastPower), x)));
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
