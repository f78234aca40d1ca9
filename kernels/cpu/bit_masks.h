#pragma once

// For the instruction sets without registers of masks and without powers of two; included by their instructions.h.

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr float kLeastPower = -127, kMostPower = 128;  // whose exponents stand for 0 and for infinity

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
