#pragma once

#include <string_view>

namespace vlmamba::app {

/// src/app/export/modeling_vl_mamba.py.
extern const std::string_view kModelingPython;

}  // namespace vlmamba::app
