#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "src/ops/scan_gradients.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

namespace vlmamba::ops {
namespace {

using at::Tensor;

Tensor like(bool wanted, const Tensor& gradient, const OptionalTensor& argument, const Tensor& u) {
  if (!wanted || !argument) return at::empty({0}, u.options());
  return gradient.reshape(argument->sizes()).to(argument->scalar_type());
}

}  // namespace

ScanGradientTuple like_arguments(const ScanGradientTensors& g, const Wanted<9>& wanted, const Tensor& u,
                                 const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                                 const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                                 const OptionalTensor& initial_state) {
  return {like(wanted[0], g.du, u, u),
          like(wanted[1], g.ddelta, delta, u),
          like(wanted[2], g.dA, A, u),
          like(wanted[3], g.dB, B, u),
          like(wanted[4], g.dC, C, u),
          like(wanted[5], g.dD, D, u),
          like(wanted[6], g.dz, z, u),
          like(wanted[7], g.dbias, delta_bias, u),
          like(wanted[8], g.dinitial, initial_state, u)};
}

Scan2dGradientTuple like_arguments(const ScanGradientTensors& g, const Wanted<7>& wanted, const Tensor& u,
                                   const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                                   const OptionalTensor& D, const OptionalTensor& delta_bias) {
  const auto [du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial] =
      like_arguments(g, wanted_of_2d(wanted), u, delta, A, B, C, D, {}, delta_bias, {});
  return {du, ddelta, dA, dB, dC, dD, dbias};
}

}  // namespace vlmamba::ops
