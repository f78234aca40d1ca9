// causal_conv1d and causal_conv1d_2d on the CPU: tensors to the lane kernels, threads over rows and channel blocks.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "src/ops/causal_conv1d.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "kernels/cpu/conv_lanes.h"
#include "kernels/cpu/work.h"
#include "src/ops/check.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;
using ops::OptionalTensor;

template <typename T>
ConvKernels<T> kernels() {
  switch (instruction_set()) {
    case InstructionSet::kAvx512:
      return avx512::conv_kernels<T>();
    case InstructionSet::kAvx2:
      return avx2::conv_kernels<T>();
    case InstructionSet::kBaseline:
      break;
  }
  return baseline::conv_kernels<T>();
}

// A direction's own copy of what all directions may share: [K, ...].
Tensor by_direction(const Tensor& tensor, int64_t own_dim, int64_t directions) {
  if (!tensor.defined() || tensor.dim() == own_dim) return tensor;
  std::vector<int64_t> sizes = tensor.sizes().vec();
  sizes.insert(sizes.begin(), directions);
  return tensor.unsqueeze(0).expand(sizes).contiguous();
}

// All tensors in the type of the arithmetic, contiguous. Undefined where not given.
struct ConvInputs {
  Tensor x, weight, bias, initial_state;
  std::vector<int32_t> order;
  std::vector<StepKind> step;
  int64_t directions;
  bool silu;

  ConvInputs(const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& bias_in, const OptionalTensor& initial,
             const OptionalTensor& seq_idx, c10::string_view scan, int64_t height, int64_t width,
             c10::string_view activation)
      : order(ops::scan_order(scan, height, width)),
        directions(static_cast<int64_t>(ops::scan_directions(scan).size())),
        silu(activation == "silu") {
    const auto type = ops::math_type(x_in);
    x = ops::in_math_type(x_in, type);
    weight = by_direction(ops::in_math_type(weight_in, type), 3, directions);
    bias = by_direction(ops::in_math_type(bias_in, type), 2, directions);
    initial_state = ops::in_math_type(initial, type);
    if (seq_idx) step = step_kinds(*seq_idx);
  }
  int64_t blocks() const { return blocks_per_group(x.size(2), 1); }
  int64_t slices() const { return slices_of(x.size(0), blocks()); }

  template <typename T>
  ConvProblem<T> problem() const {
    return {x.size(0),      x.size(1),
            directions,     x.size(2),
            weight.size(2), silu,
            order.data(),   step.empty() ? nullptr : step.data(),
            data<T>(x),     data<T>(weight),
            data<T>(bias),  data<T>(initial_state)};
  }
};

void run_forward(const ConvInputs& in, const Tensor& y, const Tensor& final_state) {
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "causal_conv1d", [&] {
    const auto problem = in.problem<scalar_t>();
    const ConvOutput<scalar_t> out{mutable_data<scalar_t>(y), mutable_data<scalar_t>(final_state)};
    for_each_slice(in.x.size(0), in.blocks(), in.slices(), [&](int64_t row, int64_t, int64_t first, int64_t last) {
      kernels<scalar_t>().forward(problem, out, row, first, last);
    });
  });
}

struct Gradients {
  Tensor dx, dweight, dbias, dinitial;
};

// Gradients in the type of the arithmetic, summed over the rows and, where shared, over the directions.
Gradients run_backward(const ConvInputs& in, const Tensor& dy, const Tensor& dfinal, bool shared_weight,
                       bool shared_bias) {
  const int64_t rows = in.x.size(0), channels = in.x.size(2);
  Gradients g{
      at::empty_like(in.x), at::zeros({rows, in.directions, channels, in.weight.size(2)}, in.x.options()), {}, {}};
  if (in.bias.defined()) g.dbias = at::zeros({rows, in.directions, channels}, in.x.options());
  if (in.initial_state.defined()) g.dinitial = at::empty_like(in.initial_state);
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "causal_conv1d_backward", [&] {
    const auto problem = in.problem<scalar_t>();
    const ConvGradients<scalar_t> pointers{data<scalar_t>(dy),
                                           data<scalar_t>(dfinal),
                                           mutable_data<scalar_t>(g.dx),
                                           mutable_data<scalar_t>(g.dweight),
                                           mutable_data<scalar_t>(g.dbias),
                                           mutable_data<scalar_t>(g.dinitial)};
    for_each_slice(rows, in.blocks(), in.slices(), [&](int64_t row, int64_t, int64_t first, int64_t last) {
      kernels<scalar_t>().backward(problem, pointers, row, first, last);
    });
  });
  g.dweight = g.dweight.sum(0);
  if (shared_weight) g.dweight = g.dweight.sum(0);
  if (g.dbias.defined()) g.dbias = g.dbias.sum(0);
  if (g.dbias.defined() && shared_bias) g.dbias = g.dbias.sum(0);
  return g;
}

Tensor like(const Tensor& gradient, const OptionalTensor& input, const Tensor& x) {
  return input ? gradient.to(input->scalar_type()) : at::empty({0}, x.options());
}

std::tuple<Tensor, Tensor> causal_conv1d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                         c10::string_view activation) {
  ops::check_causal_conv1d(x, weight, bias, initial_state, seq_idx, activation);
  const ConvInputs in(x, weight, bias, initial_state, seq_idx, "forward", 1, x.size(1), activation);
  const Tensor y = at::empty_like(in.x);
  const Tensor final_state = at::empty({x.size(0), weight.size(1) - 1, x.size(2)}, in.x.options());
  run_forward(in, y, final_state);
  return {y.to(x.scalar_type()), final_state.to(x.scalar_type())};
}

Tensor causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, c10::string_view scan,
                        int64_t height, int64_t width, c10::string_view activation) {
  ops::check_causal_conv1d_2d(x, weight, bias, scan, height, width, activation);
  const ConvInputs in(x, weight, bias, {}, {}, scan, height, width, activation);
  const Tensor y = at::empty({x.size(0), x.size(1), in.directions, x.size(2)}, in.x.options());
  run_forward(in, y, {});
  return y.to(x.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor, Tensor> causal_conv1d_backward(
    const Tensor& dy, const OptionalTensor& dfinal, const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
    const OptionalTensor& initial_state, const OptionalTensor& seq_idx, c10::string_view activation) {
  const ConvInputs in(x, weight, bias, initial_state, seq_idx, "forward", 1, x.size(1), activation);
  const auto type = ops::math_type(x);
  const auto g = run_backward(in, ops::in_math_type(dy, type), ops::in_math_type(dfinal, type), /*shared_weight=*/true,
                              /*shared_bias=*/true);
  return {g.dx.to(x.scalar_type()), g.dweight.to(weight.scalar_type()), like(g.dbias, bias, x),
          like(g.dinitial, initial_state, x)};
}

std::tuple<Tensor, Tensor, Tensor> causal_conv1d_2d_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                             const OptionalTensor& bias, c10::string_view scan,
                                                             int64_t height, int64_t width,
                                                             c10::string_view activation) {
  const ConvInputs in(x, weight, bias, {}, {}, scan, height, width, activation);
  const auto g =
      run_backward(in, ops::in_math_type(dy, ops::math_type(x)), {}, weight.dim() == 2, bias && bias->dim() == 1);
  return {g.dx.to(x.scalar_type()), g.dweight.to(weight.scalar_type()), like(g.dbias, bias, x)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("causal_conv1d", causal_conv1d);
  m.impl("causal_conv1d_2d", causal_conv1d_2d);
  m.impl("causal_conv1d_backward", causal_conv1d_backward);
  m.impl("causal_conv1d_2d_backward", causal_conv1d_2d_backward);
}

}  // namespace vlmamba::cpu
