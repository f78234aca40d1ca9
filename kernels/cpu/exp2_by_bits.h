#pragma once

// For the instruction sets without instructions for it; included by their instructions.h.

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr float kLeastPower = -127, kMostPower = 128;

// 2^x with a relative error below 1.8e-7 for x of kLeastPower .. 127.5, with 1 at 0, 0 at its lower end, infinity
// above, and NaN for NaN.
inline Register<float> exp2_by_bits(Register<float> x) {
  const Register<float> shifted = x + 12583039.0f;  // 1.5 * 2^23 + 127: the biased exponent in the low bits
  const Register<float> f = x - (shifted - 12583039.0f);
  Register<float> p = f * 1.32647e-3f + 9.67151e-3f;
  p = p * f + 5.550734e-2f;
  p = p * f + 2.4022242e-1f;
  p = p * f + 6.9314698e-1f;
  p = p * f + 1.0f;
  return p * bits_as<Register<float>>(bits_as<Bits>(shifted) << 23);
}

template <typename M>
using Mask = Bits;  // all ones in the lanes that count

template <typename M>
inline Mask<M> first_lanes(int64_t width) {
  Bits mask{};
  for (int64_t i = 0; i < width * static_cast<int64_t>(sizeof(M) / sizeof(uint32_t)); ++i) mask[i] = ~0u;
  return mask;
}

// x y in the lanes of the mask and 0 elsewhere, whatever is there.
template <typename V>
inline V product(Bits mask, V x, V y) {
  return bits_as<V>(bits_as<Bits>(x * y) & mask);
}

}  // namespace
}  // namespace vlmamba::cpu::VLMAMBA_PATH
