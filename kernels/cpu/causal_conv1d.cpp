// causal_conv1d and causal_conv1d_2d on the CPU: tensors to the lane kernels, threads over rows and channels.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "src/ops/causal_conv1d.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "kernels/cpu/conv_lanes.h"
#include "kernels/cpu/work.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;
using ops::OptionalTensor;
using ops::Wanted;

template <typename S>
ConvKernels<S> kernels(int64_t taps) {
  return fastest(baseline::conv_kernels<S>, avx2::conv_kernels<S>, avx512::conv_kernels<S>)(taps);
}

// A direction's own copy of what all directions may share: [K, ...].
Tensor by_direction(const Tensor& tensor, int64_t own_dim, int64_t directions) {
  if (!tensor.defined() || tensor.dim() == own_dim) return tensor;
  std::vector<int64_t> sizes = tensor.sizes().vec();
  sizes.insert(sizes.begin(), directions);
  return tensor.unsqueeze(0).expand(sizes).contiguous();
}

// All tensors contiguous, the weights in the type of the arithmetic. Undefined where not given.
struct ConvInputs {
  Tensor x, weight, bias, initial_state;
  std::vector<int32_t> order;
  std::vector<StepKind> step;
  int64_t directions;
  bool silu;

  ConvInputs(const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& bias_in, const OptionalTensor& initial,
             const OptionalTensor& seq_idx, c10::string_view scan, int64_t height, int64_t width,
             c10::string_view activation)
      : x(x_in.contiguous()),
        initial_state(contiguous(initial)),
        order(ops::scan_order(scan, height, width)),
        directions(static_cast<int64_t>(ops::scan_directions(scan).size())),
        silu(activation == "silu") {
    const auto type = ops::math_type(x);
    weight = by_direction(ops::in_math_type(weight_in, type), 3, directions);
    bias = by_direction(ops::in_math_type(bias_in, type), 2, directions);
    if (seq_idx) step = step_kinds(*seq_idx);
  }
  int64_t stripes() const { return x.size(0) * conv_stripes(x.size(2), directions); }
  int64_t taps() const { return weight.size(2); }

  // `work` is called with the first and the last of each part's stripes.
  template <typename Work>
  void for_each_stripe(const Work& work) const {
    const int64_t numbers = conv_stripe_channels(directions) * x.size(1) * directions;
    for_each_part(stripes(), parts_of(stripes(), numbers),
                  [&](int64_t, int64_t first, int64_t last) { work(first, last); });
  }

  template <typename S>
  ConvProblem<S> problem() const {
    return {x.size(0),
            x.size(1),
            directions,
            x.size(2),
            taps(),
            silu,
            order.data(),
            step.empty() ? nullptr : step.data(),
            stored<S>(x),
            stored<Math<S>>(weight),
            stored<Math<S>>(bias),
            stored<S>(initial_state)};
  }
};

void run_forward(const ConvInputs& in, const Tensor& y, const Tensor& final_state) {
  with_storage(in.x.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    const auto problem = in.problem<S>();
    const ConvOutput<S> out{mutable_stored<S>(y), mutable_stored<S>(final_state)};
    const auto run = kernels<S>(in.taps()).forward;
    in.for_each_stripe([&](int64_t first, int64_t last) { run(problem, out, first, last); });
  });
}

struct Gradients {
  Tensor dx, dweight, dbias, dinitial;
};

// dx and dinitial in x's type; those of the weights in the type of the arithmetic, summed over the rows and, where
// shared, over the directions.
Gradients run_backward(const ConvInputs& in, const Tensor& dy, const Tensor& dfinal, bool shared_weight,
                       bool shared_bias, const Wanted<4>& wanted) {
  const int64_t rows = in.x.size(0), channels = in.x.size(2);
  Gradients g;
  g.dx = at::empty_like(in.x);
  if (wanted[1]) g.dweight = at::empty({rows, in.directions, channels, in.taps()}, in.weight.options());
  if (wanted[2] && in.bias.defined()) g.dbias = at::empty({rows, in.directions, channels}, in.bias.options());
  if (wanted[3] && in.initial_state.defined()) g.dinitial = at::empty_like(in.initial_state);
  with_storage(in.x.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    const auto problem = in.problem<S>();
    const ConvGradients<S> pointers{stored<S>(dy),
                                    stored<S>(dfinal),
                                    mutable_stored<S>(g.dx),
                                    mutable_stored<Math<S>>(g.dweight),
                                    mutable_stored<Math<S>>(g.dbias),
                                    mutable_stored<S>(g.dinitial)};
    const auto run = kernels<S>(in.taps()).backward;
    in.for_each_stripe([&](int64_t first, int64_t last) { run(problem, pointers, first, last); });
  });
  const auto sum_up = [](Tensor& parts, bool shared) {
    if (parts.defined()) parts = sum_of_parts(shared ? parts.flatten(0, 1) : parts);
  };
  sum_up(g.dweight, shared_weight);
  sum_up(g.dbias, shared_bias);
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
  const ConvInputs in(x, weight, bias, initial_state, seq_idx, "forward", 1, x.size(1), activation);
  const Tensor y = at::empty_like(in.x);
  const Tensor final_state = at::empty({x.size(0), weight.size(1) - 1, x.size(2)}, x.options());
  run_forward(in, y, final_state);
  return {y, final_state};
}

Tensor causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, c10::string_view scan,
                        int64_t height, int64_t width, c10::string_view activation) {
  ops::check_causal_conv1d_2d(x, weight, bias, scan, height, width, activation);
  const ConvInputs in(x, weight, bias, {}, {}, scan, height, width, activation);
  const Tensor y = at::empty({x.size(0), x.size(1), in.directions, x.size(2)}, x.options());
  run_forward(in, y, {});
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> causal_conv1d_backward(
    const Tensor& dy, const OptionalTensor& dfinal, const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
    const OptionalTensor& initial_state, const OptionalTensor& seq_idx, c10::string_view activation, Wanted<4> wanted) {
  ops::check_causal_conv1d_backward(dy, dfinal, x, weight, bias, initial_state, seq_idx, activation);
  const ConvInputs in(x, weight, bias, initial_state, seq_idx, "forward", 1, x.size(1), activation);
  const auto g =
      run_backward(in, dy.contiguous(), contiguous(dfinal), /*shared_weight=*/true, /*shared_bias=*/true, wanted);
  return {like(wanted[0] ? g.dx : Tensor(), x, x), like(g.dweight, weight, x), like(g.dbias, bias, x),
          like(g.dinitial, initial_state, x)};
}

std::tuple<Tensor, Tensor, Tensor> causal_conv1d_2d_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                             const OptionalTensor& bias, c10::string_view scan,
                                                             int64_t height, int64_t width, c10::string_view activation,
                                                             Wanted<3> wanted) {
  ops::check_causal_conv1d_2d_backward(dy, x, weight, bias, scan, height, width, activation);
  const ConvInputs in(x, weight, bias, {}, {}, scan, height, width, activation);
  const auto g = run_backward(in, dy.contiguous(), {}, weight.dim() == 2, bias && bias->dim() == 1,
                              {wanted[0], wanted[1], wanted[2], false});
  return {like(wanted[0] ? g.dx : Tensor(), x, x), like(g.dweight, weight, x), like(g.dbias, bias, x)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("causal_conv1d", causal_conv1d);
  m.impl("causal_conv1d_2d", causal_conv1d_2d);
  m.impl("causal_conv1d_backward", causal_conv1d_backward);
  m.impl("causal_conv1d_2d_backward", causal_conv1d_2d_backward);
}

}  // namespace vlmamba::cpu
