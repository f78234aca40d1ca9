#include "vlmamba/core/version.h"

#include <torch/headeronly/version.h>

namespace vlmamba {

std::string version() { return "0.1.0"; }

std::string libtorch_version() { return TORCH_VERSION; }

}  // namespace vlmamba
