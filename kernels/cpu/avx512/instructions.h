#pragma once

// What AVX-512 has instructions for; included by registers.h.

#include <immintrin.h>

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int kForwardStates = 16, kBackwardStates = 8;  // states that the registers hold beside what a step needs

// 2^(j/32) for j = 0 .. 31.
alignas(64) constexpr float kRoots[32] = {
    1.0f,        1.02189715f, 1.04427378f, 1.0671404f,  1.09050773f, 1.11438674f, 1.13878863f, 1.16372486f,
    1.18920712f, 1.21524736f, 1.24185781f, 1.26905096f, 1.29683955f, 1.32523664f, 1.35425555f, 1.38390988f,
    1.41421356f, 1.44518081f, 1.47682615f, 1.50916443f, 1.54221083f, 1.57598085f, 1.61049033f, 1.64575548f,
    1.68179283f, 1.7186193f,  1.75625216f, 1.79470908f, 1.83400809f, 1.87416763f, 1.91520656f, 1.95714412f};

// 2^x with a relative error below 1.8e-7, and 1 at 0; subnormal numbers, 0, infinity and NaN as they should be. A whole
// number of 32nds is taken out of x, its power comes from a table, that of the rest f, |f| <= 1/64, from a polynomial
// with an error of 5.3e-8. The instructions treat infinities as needed: f is 0 there.
inline Register<float> exp2_of(Register<float> x) {
  constexpr int kTo32nds = (5 << 4) | _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const Register<float> f = _mm512_reduce_ps(x, kTo32nds);
  const __m512i index = _mm512_castps_si512(x + 393216.0f);  // 1.5 * 2^23 / 32: 32 x in the low bits
  const Register<float> root = _mm512_permutex2var_ps(_mm512_load_ps(kRoots), index, _mm512_load_ps(kRoots + 16));
  const Register<float> power = root * f * (f * 0.240226507f + 0.693157344f) + root;
  return _mm512_scalef_ps(power, x - f);
}

// What xy, the rounded product, lacks.
inline Register<float> product_rest(Register<float> x, Register<float> y, Register<float> xy) {
  return _mm512_fmsub_ps(x, y, xy);
}

template <typename M>
struct MaskOf;
template <>
struct MaskOf<float> {
  using type = __mmask16;
};
template <>
struct MaskOf<double> {
  using type = __mmask8;
};
template <typename M>
using Mask = typename MaskOf<M>::type;

template <typename M>
inline Mask<M> first_lanes(int64_t width) {
  return static_cast<Mask<M>>((1u << width) - 1);
}

// x y in the lanes of the mask and 0 elsewhere, whatever is there.
inline Register<float> product(Mask<float> mask, Register<float> x, Register<float> y) {
  return _mm512_maskz_mul_ps(mask, x, y);
}
inline Register<double> product(Mask<double> mask, Register<double> x, Register<double> y) {
  return _mm512_maskz_mul_pd(mask, x, y);
}

inline Register<float> load_all(const Half* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void store_all(Half* to, Register<float> x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
