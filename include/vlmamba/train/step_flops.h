#pragma once

#include "vlmamba/model/flops.h"

namespace vlmamba {

/// What a step works on.
struct StepSize {
  double pictures = 0, positions = 0, targets = 0;
};

/// Floating-point operations of an optimizer step over what requires grad: forward pass, gradients of activations as
/// far back as something trains, gradients of the weights that train. What recomputation repeats is not counted, so
/// that MFU means the same with and without.
double step_flops(const ForwardFlops& forward, const VlMamba& model, const StepSize& size);

}  // namespace vlmamba
