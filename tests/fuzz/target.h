#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vlmamba/core/error.h"

// What every fuzz target is made of: the input as text, and the one exception that a parser may throw.
namespace vlmamba::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Runs a parser; malformed input is an Error, anything else ends the program, which is a finding.
template <typename Parse>
void refuse_or_accept(const Parse& parse) {
  try {
    parse();
  } catch (const Error&) {
  }
}

/// A property that must hold.
inline void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace vlmamba::fuzz
