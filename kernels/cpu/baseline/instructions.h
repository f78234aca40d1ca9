#pragma once

// Any processor, by the compiler's vectors; included by registers.h.

#include "kernels/cpu/exp2_by_bits.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int kForwardStates = 4, kBackwardStates = 4;

inline Register<float> exp2_of(Register<float> x) {
  const Register<float> least = Register<float>{} + kLeastPower, most = Register<float>{} + kMostPower;
  x = x < least ? least : x;
  return exp2_by_bits(x > most ? most : x);
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
