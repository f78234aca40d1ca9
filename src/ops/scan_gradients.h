#pragma once

#include <tuple>

#include "src/ops/check.h"
#include "src/ops/wanted.h"

// What the backends of the scans' backward ops give back.

namespace vlmamba::ops {

/// The gradients of a scan's arguments as a backend has computed them: in any floating type, and the 1-D scan's with or
/// without the one direction. Undefined where there is no such argument.
struct ScanGradientTensors {
  at::Tensor du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial;
};

/// The gradients in the order of the forward's arguments; empty where the argument was not given or not wanted.
using ScanGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                                     at::Tensor, at::Tensor>;
using Scan2dGradientTuple =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// What is wanted of a map's scan, in the order of the 1-D scan's arguments.
inline Wanted<9> wanted_of_2d(const Wanted<7>& wanted) {
  const auto [du, ddelta, dA, dB, dC, dD, dbias] = wanted;
  return {du, ddelta, dA, dB, dC, dD, /*dz=*/false, dbias, /*dinitial=*/false};
}

/// Every gradient in the sizes and the type of its argument.
ScanGradientTuple like_arguments(const ScanGradientTensors& gradients, const Wanted<9>& wanted, const at::Tensor& u,
                                 const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                 const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                                 const OptionalTensor& initial_state);
Scan2dGradientTuple like_arguments(const ScanGradientTensors& gradients, const Wanted<7>& wanted, const at::Tensor& u,
                                   const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                                   const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& delta_bias);

}  // namespace vlmamba::ops
