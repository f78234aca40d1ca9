// selective_scan and selective_scan_2d on the CPU: tensors to the lane kernels, threads over rows and channel blocks.
// The work is divided by shape alone, so that results do not depend on the number of threads.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "kernels/cpu/scan_lanes.h"
#include "kernels/cpu/work.h"
#include "src/ops/check.h"
#include "src/ops/selective_scan.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;
using ops::OptionalTensor;

template <typename T>
ScanKernels<T> kernels() {
  switch (instruction_set()) {
    case InstructionSet::kAvx512:
      return avx512::scan_kernels<T>();
    case InstructionSet::kAvx2:
      return avx2::scan_kernels<T>();
    case InstructionSet::kBaseline:
      break;
  }
  return baseline::scan_kernels<T>();
}

// All tensors of a scan in the type of its arithmetic, contiguous. Undefined where not given.
struct ScanInputs {
  Tensor u, delta, A, B, C, D, z, delta_bias, initial_state;
  std::vector<int32_t> order;
  std::vector<StepKind> step;
  int64_t directions = 1;
  bool delta_softplus = false, merge = true;

  int64_t channels() const { return u.size(-1); }
  int64_t groups() const { return B.size(-2); }
  int64_t states() const { return A.size(-1); }

  template <typename T>
  ScanProblem<T> problem() const {
    return {u.size(0),
            u.size(1),
            directions,
            channels(),
            states(),
            groups(),
            u.dim() == 4,
            merge,
            delta_softplus,
            order.data(),
            step.empty() ? nullptr : step.data(),
            data<T>(u),
            data<T>(delta),
            data<T>(A),
            data<T>(B),
            data<T>(C),
            data<T>(D),
            data<T>(z),
            data<T>(delta_bias),
            data<T>(initial_state)};
  }
};

ScanInputs inputs_1d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                     const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                     bool delta_softplus, const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  const auto type = ops::math_type(u);
  ScanInputs in{ops::in_math_type(u, type),
                ops::in_math_type(delta, type),
                ops::in_math_type(A, type),
                ops::in_math_type(B, type),
                ops::in_math_type(C, type),
                ops::in_math_type(D, type),
                ops::in_math_type(z, type),
                ops::in_math_type(delta_bias, type),
                ops::in_math_type(initial_state, type),
                {},
                {}};
  in.order = ops::scan_order("forward", 1, u.size(1));
  if (seq_idx) in.step = step_kinds(*seq_idx);
  in.delta_softplus = delta_softplus;
  return in;
}

ScanInputs inputs_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                     const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                     c10::string_view scan, int64_t height, int64_t width, bool merge) {
  const auto type = ops::math_type(u);
  ScanInputs in{ops::in_math_type(u, type),
                ops::in_math_type(delta, type),
                ops::in_math_type(A, type),
                ops::in_math_type(B, type),
                ops::in_math_type(C, type),
                ops::in_math_type(D, type),
                {},
                ops::in_math_type(delta_bias, type),
                {},
                {},
                {}};
  in.order = ops::scan_order(scan, height, width);
  in.directions = delta.size(2);
  in.delta_softplus = delta_softplus;
  in.merge = merge;
  return in;
}

int64_t blocks_of(const ScanInputs& in) { return blocks_per_group(in.channels(), in.groups()) * in.groups(); }
int64_t slices_of(const ScanInputs& in) { return cpu::slices_of(in.u.size(0), blocks_of(in)); }

template <typename T>
void run_forward(const ScanInputs& in, const Tensor& y, const Tensor& final_state) {
  const auto problem = in.problem<T>();
  const ScanOutput<T> out{mutable_data<T>(y), mutable_data<T>(final_state)};
  for_each_slice(in.u.size(0), blocks_of(in), slices_of(in), [&](int64_t row, int64_t, int64_t first, int64_t last) {
    kernels<T>().forward(problem, out, row, first, last);
  });
}

Tensor empty_like_shape(const Tensor& like) { return at::empty_like(like, at::MemoryFormat::Contiguous); }

std::tuple<Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                          const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                          const OptionalTensor& delta_bias, bool delta_softplus,
                                          const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  ops::check_selective_scan(u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  const auto in = inputs_1d(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
  const Tensor y = empty_like_shape(in.u);
  const Tensor final_state = at::zeros({u.size(0), u.size(2), A.size(1)}, in.u.options());
  AT_DISPATCH_FLOATING_TYPES(in.u.scalar_type(), "selective_scan", [&] { run_forward<scalar_t>(in, y, final_state); });
  return {y.to(u.scalar_type()), final_state};
}

Tensor selective_scan_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                         const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                         c10::string_view scan, int64_t height, int64_t width, bool merge) {
  ops::check_selective_scan_2d(u, delta, A, B, C, D, delta_bias, scan, height, width);
  const auto in = inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge);
  const Tensor y =
      merge ? at::empty({u.size(0), u.size(1), in.channels()}, in.u.options()) : empty_like_shape(in.delta);
  AT_DISPATCH_FLOATING_TYPES(in.u.scalar_type(), "selective_scan_2d", [&] { run_forward<scalar_t>(in, y, Tensor()); });
  return y.to(u.scalar_type());
}

// Gradients in the type of the arithmetic; rows and slices still apart.
struct Gradients {
  Tensor du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial;
};

template <typename T>
void run_backward(const ScanInputs& in, const Tensor& dy, const Tensor& dfinal, const Gradients& g, int64_t slices) {
  const auto problem = in.problem<T>();
  const ScanGradients<T> pointers{data<T>(dy),
                                  data<T>(dfinal),
                                  mutable_data<T>(g.du),
                                  mutable_data<T>(g.ddelta),
                                  mutable_data<T>(g.dB),
                                  mutable_data<T>(g.dC),
                                  mutable_data<T>(g.dA),
                                  mutable_data<T>(g.dD),
                                  mutable_data<T>(g.dbias),
                                  mutable_data<T>(g.dz),
                                  mutable_data<T>(g.dinitial)};
  for_each_slice(in.u.size(0), blocks_of(in), slices, [&](int64_t row, int64_t slice, int64_t first, int64_t last) {
    kernels<T>().backward(problem, pointers, row, slice, first, last);
  });
}

Gradients backward(const ScanInputs& in, const Tensor& dy, const Tensor& dfinal) {
  const int64_t slices = slices_of(in), rows = in.u.size(0), channels = in.channels();
  std::vector<int64_t> parts(in.B.sizes().begin(), in.B.sizes().end());
  parts.insert(parts.begin(), slices);
  Gradients g;
  g.du = empty_like_shape(in.u);
  g.ddelta = empty_like_shape(in.delta);
  g.dA = at::zeros({rows, in.directions, channels, in.states()}, in.u.options());
  g.dB = at::zeros(parts, in.u.options());
  g.dC = at::zeros(parts, in.u.options());
  if (in.D.defined()) g.dD = at::zeros({rows, in.directions, channels}, in.u.options());
  if (in.delta_bias.defined()) g.dbias = at::zeros({rows, in.directions, channels}, in.u.options());
  if (in.z.defined()) g.dz = empty_like_shape(in.z);
  if (in.initial_state.defined()) g.dinitial = at::zeros(in.initial_state.sizes(), in.u.options());
  AT_DISPATCH_FLOATING_TYPES(in.u.scalar_type(), "selective_scan_backward",
                             [&] { run_backward<scalar_t>(in, dy, dfinal, g, slices); });
  g.dA = g.dA.sum(0);
  g.dB = g.dB.sum(0);
  g.dC = g.dC.sum(0);
  if (g.dD.defined()) g.dD = g.dD.sum(0);
  if (g.dbias.defined()) g.dbias = g.dbias.sum(0);
  return g;
}

// A gradient as its input wants it; empty where there was no input.
Tensor like(const Tensor& gradient, const Tensor& input) {
  return gradient.reshape(input.sizes()).to(input.scalar_type());
}
Tensor like(const Tensor& gradient, const OptionalTensor& input, const Tensor& u) {
  return input ? like(gradient, *input) : at::empty({0}, u.options());
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_backward(
    const Tensor& dy, const OptionalTensor& dfinal, const Tensor& u, const Tensor& delta, const Tensor& A,
    const Tensor& B, const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
    const OptionalTensor& delta_bias, bool delta_softplus, const OptionalTensor& initial_state,
    const OptionalTensor& seq_idx) {
  const auto in = inputs_1d(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
  const auto type = ops::math_type(u);
  const auto g = backward(in, ops::in_math_type(dy, type), ops::in_math_type(dfinal, type));
  return {like(g.du, u),
          like(g.ddelta, delta),
          like(g.dA, A),
          like(g.dB, B),
          like(g.dC, C),
          like(g.dD, D, u),
          like(g.dz, z, u),
          like(g.dbias, delta_bias, u),
          like(g.dinitial, initial_state, u)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_2d_backward(
    const Tensor& dy, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
    const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus, c10::string_view scan,
    int64_t height, int64_t width, bool merge) {
  const auto in = inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge);
  const auto g = backward(in, ops::in_math_type(dy, ops::math_type(u)), Tensor());
  return {like(g.du, u),    like(g.ddelta, delta),       like(g.dA, A), like(g.dB, B), like(g.dC, C),
          like(g.dD, D, u), like(g.dbias, delta_bias, u)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("selective_scan", selective_scan);
  m.impl("selective_scan_2d", selective_scan_2d);
  m.impl("selective_scan_backward", selective_scan_backward);
  m.impl("selective_scan_2d_backward", selective_scan_2d_backward);
}

}  // namespace vlmamba::cpu
