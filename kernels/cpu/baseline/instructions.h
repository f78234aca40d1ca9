#pragma once

// Any processor, by the compiler's vectors; included by registers.h.

#include "kernels/cpu/bit_masks.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int kForwardStates = 4, kBackwardStates = 4;

// 2^x with a relative error below 1.8e-7 for x of kLeastPower .. 127.5, with 1 at 0, 0 at its lower end, infinity
// above, and NaN for NaN.
inline Register<float> exp2_of(Register<float> x) {
  const Register<float> least = Register<float>{} + kLeastPower, most = Register<float>{} + kMostPower;
  x = x < least ? least : x;
  x = x > most ? most : x;
  const Register<float> shifted = x + 12583039.0f;  // 1.5 * 2^23 + 127: the biased exponent in the low bits
  const Register<float> f = x - (shifted - 12583039.0f);
  Register<float> p = f * 1.32647e-3f + 9.67151e-3f;
  p = p * f + 5.550734e-2f;
  p = p * f + 2.4022242e-1f;
  p = p * f + 6.9314698e-1f;
  p = p * f + 1.0f;
  return p * bits_as<Register<float>>(bits_as<Bits>(shifted) << 23);
}

// What xy, the rounded product, lacks; fp64 holds the product.
inline Register<float> product_rest(Register<float> x, Register<float> y, Register<float> xy) {
  for (int i = 0; i < kWidth<float>; ++i) x[i] = static_cast<float>(static_cast<double>(x[i]) * y[i] - xy[i]);
  return x;
}

// Half precision by its bits: the exponent is moved by a multiplication, which also makes normal numbers of subnormal
// ones, and the other way round.
inline Register<float> load_all(const Half* from) {
  HalfBits half;
  __builtin_memcpy(&half, from, sizeof half);
  const Bits bits = __builtin_convertvector(half, Bits), magnitude = (bits & 0x7fffu) << 13;
  const Bits finite = bits_as<Bits>(bits_as<Register<float>>(magnitude) * 0x1p112f);
  const Bits number = (bits & 0x7c00u) == 0x7c00u ? magnitude | 0x7f800000u : finite;
  return bits_as<Register<float>>(number | (bits & 0x8000u) << 16);
}
inline void store_all(Half* to, Register<float> x) {
  const Bits bits = bits_as<Bits>(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const Bits normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  const Register<float> half = Register<float>{} + 0.5f;
  const Bits subnormal = bits_as<Bits>(bits_as<Register<float>>(magnitude) + half) - bits_as<Bits>(half);
  Bits result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? Bits{} + 0x7c00u : result;
  result = magnitude > 0x7f800000u ? Bits{} + 0x7e00u : result;
  const HalfBits narrow = __builtin_convertvector(result | sign, HalfBits);
  __builtin_memcpy(to, &narrow, sizeof narrow);
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
