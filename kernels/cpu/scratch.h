#pragma once

#include <cstddef>

namespace vlmamba::cpu {

/// A kernel's work area: uninitialised, aligned to cache lines, given back by free(). Throws c10::OutOfMemoryError
/// where there is no memory. Not inline: the files that are compiled once per instruction set call it.
void* scratch(size_t bytes);

}  // namespace vlmamba::cpu
