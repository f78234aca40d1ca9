// causal_conv1d and causal_conv1d_2d on CUDA: tensors to launchers.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "kernels/cuda/causal_conv1d.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <tuple>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/summed_rows.h"
#include "kernels/cuda/tensors.h"
#include "src/ops/causal_conv1d.h"
#include "src/ops/check.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cuda {
namespace {

using at::Tensor;
using ops::OptionalTensor;
using ops::Wanted;

// Weights [..., D, W] and biases in the type of the arithmetic, the weights by tap: [..., W, D].
Tensor by_tap(const Tensor& weight, at::ScalarType type) { return weight.to(type).transpose(-1, -2).contiguous(); }

Tensor contiguous(const OptionalTensor& tensor) { return tensor ? tensor->contiguous() : Tensor(); }

struct ConvInputs {
  Tensor x, weight, bias, initial_state, seq_idx, bounds;
  int directions, taps, width;
  bool silu;
  int64_t chunk;

  ConvInputs(const char* op, const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& bias_in,
             const OptionalTensor& initial, const OptionalTensor& seq, c10::string_view scan, int64_t width_in,
             c10::string_view activation, cudaStream_t stream)
      : x(x_in.contiguous()),
        weight(by_tap(weight_in, ops::math_type(x_in))),
        bias(ops::in_math_type(bias_in, ops::math_type(x_in))),
        initial_state(contiguous(initial)),
        seq_idx(contiguous(seq)),
        directions(static_cast<int>(ops::scan_directions(scan).size())),
        taps(static_cast<int>(weight_in.size(-1))),
        width(static_cast<int>(width_in)),
        silu(activation == "silu"),
        chunk(conv_chunk(x_in.size(0), x_in.size(1), x_in.size(2), multiprocessors())) {
    TORCH_CHECK(x.size(1) <= INT32_MAX, "[", op, "] x: expected at most ", INT32_MAX, " positions, got ", x.size(1));
    if (!seq_idx.defined()) return;
    bounds = at::empty({x.size(0), 2}, seq_idx.options());
    check(bounds_of_rows(device_data<int32_t>(seq_idx), mutable_device_data<int32_t>(bounds), x.size(0), x.size(1),
                         stream));
  }

  int64_t chunks() const { return (x.size(1) + chunk - 1) / chunk; }

  template <class scalar_t>
  auto problem() const {
    using T = typename DeviceType<scalar_t>::type;
    const int64_t channels = x.size(2);
    ConvProblem<T> p{};
    p.batch = x.size(0), p.length = x.size(1), p.channels = channels;
    p.directions = directions, p.taps = taps, p.width = width;
    p.silu = silu;
    p.x = device_data<scalar_t>(x);
    p.weight = device_data<MathType<T>>(weight), p.weight_step = weight.dim() == 3 ? taps * channels : 0;
    p.bias = device_data<MathType<T>>(bias), p.bias_step = bias.defined() && bias.dim() == 2 ? channels : 0;
    p.initial_state = device_data<scalar_t>(initial_state);
    p.seq_idx = device_data<int32_t>(seq_idx), p.bounds = device_data<int32_t>(bounds);
    return p;
  }
};

void run_forward(const ConvInputs& in, const Tensor& y, const Tensor& final_state, cudaStream_t stream) {
  VLMAMBA_DISPATCH_FLOATING(in.x.scalar_type(), "causal_conv1d", [&] {
    check(conv_forward(in.problem<scalar_t>(), mutable_device_data<scalar_t>(y),
                       mutable_device_data<scalar_t>(final_state), in.chunk, stream));
  });
}

struct Gradients {
  Tensor dx, dweight, dbias, dinitial;  // the weights' in the type of the arithmetic
};

Gradients run_backward(const ConvInputs& in, const Tensor& dy, const Tensor& dfinal, const Wanted<4>& wanted,
                       cudaStream_t stream) {
  const int64_t parts = in.x.size(0) * in.chunks(), channels = in.x.size(2);
  const auto math = in.weight.options();
  Gradients g{at::empty_like(in.x), {}, {}, {}};
  Tensor dweight, dbias;
  if (wanted[1]) dweight = at::empty({parts, in.directions, in.taps, channels}, math);
  if (wanted[2] && in.bias.defined()) dbias = at::empty({parts, in.directions, channels}, math);
  if (wanted[3] && in.initial_state.defined()) g.dinitial = at::empty_like(in.initial_state);
  VLMAMBA_DISPATCH_FLOATING(in.x.scalar_type(), "causal_conv1d_backward", [&] {
    using T = typename DeviceType<scalar_t>::type;
    const auto problem = in.problem<scalar_t>();
    const Tensor scratch = at::empty({conv_scratch_size(problem)}, math);
    const ConvGradients<T> pointers{device_data<scalar_t>(dy),
                                    device_data<scalar_t>(dfinal),
                                    mutable_device_data<scalar_t>(g.dx),
                                    mutable_device_data<scalar_t>(g.dinitial),
                                    mutable_device_data<MathType<T>>(dweight),
                                    mutable_device_data<MathType<T>>(dbias),
                                    mutable_device_data<MathType<T>>(scratch)};
    check(conv_backward(problem, pointers, in.chunk, stream));
  });
  // What all directions share is summed over them too.
  if (dweight.defined()) g.dweight = sum_of_rows(dweight, in.weight.sizes(), stream).transpose(-1, -2).contiguous();
  if (dbias.defined()) g.dbias = sum_of_rows(dbias, in.bias.sizes(), stream);
  return g;
}

// A gradient as its input wants it; empty where it was not wanted.
Tensor like(const Tensor& gradient, const OptionalTensor& input, const Tensor& x) {
  return gradient.defined() ? gradient.to(input->scalar_type()) : at::empty({0}, x.options());
}

std::tuple<Tensor, Tensor> causal_conv1d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                         c10::string_view activation) {
  ops::check_causal_conv1d(x, weight, bias, initial_state, seq_idx, activation);
  const DeviceScope scope(x);
  const ConvInputs in("causal_conv1d", x, weight, bias, initial_state, seq_idx, "forward", x.size(1), activation,
                      scope.stream());
  const Tensor y = at::empty_like(in.x);
  const Tensor final_state = at::empty({x.size(0), weight.size(1) - 1, x.size(2)}, in.x.options());
  run_forward(in, y, final_state, scope.stream());
  return {y, final_state};
}

Tensor causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, c10::string_view scan,
                        int64_t height, int64_t width, c10::string_view activation) {
  ops::check_causal_conv1d_2d(x, weight, bias, scan, height, width, activation);
  const DeviceScope scope(x);
  const ConvInputs in("causal_conv1d_2d", x, weight, bias, {}, {}, scan, width, activation, scope.stream());
  const Tensor y = at::empty({x.size(0), x.size(1), in.directions, x.size(2)}, in.x.options());
  run_forward(in, y, {}, scope.stream());
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> causal_conv1d_backward(
    const Tensor& dy, const OptionalTensor& dfinal, const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
    const OptionalTensor& initial_state, const OptionalTensor& seq_idx, c10::string_view activation, Wanted<4> wanted) {
  ops::check_causal_conv1d_backward(dy, dfinal, x, weight, bias, initial_state, seq_idx, activation);
  const DeviceScope scope(x);
  const ConvInputs in("causal_conv1d", x, weight, bias, initial_state, seq_idx, "forward", x.size(1), activation,
                      scope.stream());
  const auto g = run_backward(in, dy.contiguous(), contiguous(dfinal), wanted, scope.stream());
  return {like(wanted[0] ? g.dx : Tensor(), x, x), like(g.dweight, weight, x), like(g.dbias, bias, x),
          like(g.dinitial, initial_state, x)};
}

std::tuple<Tensor, Tensor, Tensor> causal_conv1d_2d_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                             const OptionalTensor& bias, c10::string_view scan,
                                                             int64_t height, int64_t width, c10::string_view activation,
                                                             Wanted<3> wanted) {
  ops::check_causal_conv1d_2d_backward(dy, x, weight, bias, scan, height, width, activation);
  const DeviceScope scope(x);
  const ConvInputs in("causal_conv1d_2d", x, weight, bias, {}, {}, scan, width, activation, scope.stream());
  const auto g = run_backward(in, dy.contiguous(), {}, {wanted[0], wanted[1], wanted[2], false}, scope.stream());
  return {like(wanted[0] ? g.dx : Tensor(), x, x), like(g.dweight, weight, x), like(g.dbias, bias, x)};
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("causal_conv1d", causal_conv1d);
  m.impl("causal_conv1d_2d", causal_conv1d_2d);
  m.impl("causal_conv1d_backward", causal_conv1d_backward);
  m.impl("causal_conv1d_2d_backward", causal_conv1d_2d_backward);
}

}  // namespace vlmamba::cuda
