// The two steps of decoding on CUDA: tensors to launchers. A state that is not contiguous is worked on as a copy.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cuda/causal_conv1d.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/selective_state_update.h"
#include "kernels/cuda/tensors.h"
#include "src/ops/causal_conv1d.h"
#include "src/ops/selective_state_update.h"

namespace vlmamba::cuda {
namespace {

using at::Tensor;
using ops::OptionalTensor;

Tensor contiguous(const OptionalTensor& tensor) { return tensor ? tensor->contiguous() : Tensor(); }

Tensor state_update(Tensor& state_in, const Tensor& u_in, const Tensor& delta_in, const Tensor& A_in,
                    const Tensor& B_in, const Tensor& C_in, const OptionalTensor& D_in, const OptionalTensor& z_in,
                    const OptionalTensor& bias_in, bool delta_softplus) {
  ops::check_selective_state_update(state_in, u_in, delta_in, A_in, B_in, C_in, D_in, z_in, bias_in);
  const DeviceScope scope(u_in);
  const auto type = ops::math_type(u_in);
  const Tensor state = state_in.contiguous(), u = u_in.contiguous(), delta = delta_in.contiguous();
  const Tensor A = ops::in_math_type(A_in, type), B = B_in.contiguous(), C = C_in.contiguous();
  const Tensor D = ops::in_math_type(D_in, type), z = contiguous(z_in), bias = ops::in_math_type(bias_in, type);
  const Tensor y = at::empty_like(u);
  VLMAMBA_DISPATCH_FLOATING(u.scalar_type(), "selective_state_update", [&] {
    using T = typename DeviceType<scalar_t>::type;
    using Math = MathType<T>;
    const StateUpdate<T> problem{u.size(0),
                                 u.size(1),
                                 B.size(1),
                                 A.size(1),
                                 delta_softplus,
                                 mutable_device_data<Math>(state),
                                 device_data<scalar_t>(u),
                                 device_data<scalar_t>(delta),
                                 device_data<scalar_t>(B),
                                 device_data<scalar_t>(C),
                                 device_data<scalar_t>(z),
                                 device_data<Math>(A),
                                 device_data<Math>(D),
                                 device_data<Math>(bias),
                                 mutable_device_data<scalar_t>(y)};
    check(selective_state_update(problem, scope.stream()));
  });
  if (!state.is_same(state_in)) state_in.copy_(state);
  return y;
}

Tensor conv_update_op(const Tensor& x_in, Tensor& state_in, const Tensor& weight_in, const OptionalTensor& bias_in,
                      c10::string_view activation) {
  ops::check_causal_conv1d_update(x_in, state_in, weight_in, bias_in, activation);
  const DeviceScope scope(x_in);
  const auto type = ops::math_type(x_in);
  const Tensor x = x_in.contiguous(), state = state_in.contiguous(), bias = ops::in_math_type(bias_in, type);
  const Tensor weight = weight_in.to(type).t().contiguous();  // [W,D]
  const Tensor y = at::empty_like(x);
  VLMAMBA_DISPATCH_FLOATING(x.scalar_type(), "causal_conv1d_update", [&] {
    using Math = MathType<typename DeviceType<scalar_t>::type>;
    check(conv_update(device_data<scalar_t>(x), mutable_device_data<scalar_t>(state), device_data<Math>(weight),
                      device_data<Math>(bias), mutable_device_data<scalar_t>(y), x.size(0), x.size(1),
                      static_cast<int>(weight.size(0)), activation == "silu", scope.stream()));
  });
  if (!state.is_same(state_in)) state_in.copy_(state);
  return y;
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("selective_state_update", state_update);
  m.impl("causal_conv1d_update", conv_update_op);
}

}  // namespace vlmamba::cuda
