#pragma once

#include <string>

namespace vlmamba {

/// The version of this library.
std::string version();

/// The version of LibTorch that this library was built with.
std::string libtorch_version();

}  // namespace vlmamba
