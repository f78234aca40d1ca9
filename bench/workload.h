#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "bench/shapes.h"

namespace vlmamba::bench {

/// The least that a pass must do: bytes to and from memory (each input read once, each output written once),
/// exponentials, and state steps (one h = a h + b each).
struct Cost {
  double bytes = 0, exps = 0, steps = 0;
};

/// An op with its inputs, ready to run.
struct Workload {
  using Run = std::function<std::vector<at::Tensor>()>;

  std::vector<at::Tensor> inputs;  ///< leaves that require gradients, if the op has any
  Run run{};
  Run reference{};  ///< the same from plain ATen ops; none for modules
  Cost forward{}, backward{};
  bool differentiable = true;
};

/// Inputs from a fixed seed.
Workload make_workload(const Shape& shape, at::ScalarType type, at::Device device);

/// Bytes that inputs, outputs and gradients of a shape will take, roughly: what decides whether it fits.
double bytes_of(const Shape& shape, at::ScalarType type);

}  // namespace vlmamba::bench
