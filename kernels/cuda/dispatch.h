#pragma once

#include <ATen/Dispatch.h>

/// Calls the lambda with `scalar_t` for each type that the ops take.
#define VLMAMBA_DISPATCH_FLOATING(type, name, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, name, __VA_ARGS__)
