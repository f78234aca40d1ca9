// selective_scan and selective_scan_2d on the CPU: tensors to the lane kernels, threads over rows and channel blocks.
// The work is divided by shape alone, so that results do not depend on the number of threads.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "kernels/cpu/scan_lanes.h"
#include "kernels/cpu/work.h"
#include "src/ops/check.h"
#include "src/ops/scan_gradients.h"
#include "src/ops/selective_scan.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;
using ops::OptionalTensor;
using ops::Wanted;

template <typename T>
ScanKernels<T> kernels() {
  return fastest(baseline::scan_kernels<T>(), avx2::scan_kernels<T>(), avx512::scan_kernels<T>());
}

// Lanes need channels, or states, side by side; all other strides are taken as they are.
Tensor readable(const Tensor& tensor) {
  return tensor.size(-1) == 1 || tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}
Tensor readable(const OptionalTensor& tensor) { return tensor ? readable(*tensor) : Tensor(); }

// The strides of [B, L, any], [B, L, K, any] or, grouped, [B, L, G, any] and [B, L, K, G, any].
template <typename T>
Strided<T> strided(const Tensor& tensor, bool grouped = false) {
  if (!tensor.defined()) return {};
  T* data;
  if constexpr (std::is_const_v<T>)
    data = static_cast<T*>(tensor.const_data_ptr());
  else
    data = static_cast<T*>(tensor.mutable_data_ptr());
  const int64_t dims = tensor.dim() - (grouped ? 1 : 0);
  return {data, tensor.stride(0), tensor.stride(1), dims == 4 ? tensor.stride(2) : 0, grouped ? tensor.stride(-2) : 0};
}

// The tensors of a scan. The small ones are in the type of the arithmetic and contiguous; undefined where not given.
struct ScanInputs {
  Tensor u, delta, B, C, z, A, D, delta_bias, initial_state;
  std::vector<int32_t> order;
  std::vector<StepKind> step;
  bool delta_softplus, merge = true;

  ScanInputs(const Tensor& u_in, const Tensor& delta_in, const Tensor& A_in, const Tensor& B_in, const Tensor& C_in,
             const OptionalTensor& D_in, const OptionalTensor& z_in, const OptionalTensor& bias, bool softplus,
             const OptionalTensor& initial, std::vector<int32_t> scan_order)
      : u(readable(u_in)),
        delta(readable(delta_in)),
        B(readable(B_in)),
        C(readable(C_in)),
        z(readable(z_in)),
        order(std::move(scan_order)),
        delta_softplus(softplus) {
    const auto type = ops::math_type(u);
    A = ops::in_math_type(A_in, type);
    D = ops::in_math_type(D_in, type);
    delta_bias = ops::in_math_type(bias, type);
    initial_state = ops::in_math_type(initial, type);
  }

  int64_t rows() const { return u.size(0); }
  int64_t length() const { return u.size(1); }
  int64_t directions() const { return delta.dim() == 4 ? delta.size(2) : 1; }
  int64_t channels() const { return u.size(-1); }
  int64_t groups() const { return B.size(-2); }
  int64_t states() const { return A.size(-1); }
  int64_t blocks(int64_t lanes) const { return blocks_per_group(channels(), groups(), lanes) * groups(); }
  at::TensorOptions math_options() const { return u.options().dtype(ops::math_type(u)); }

  template <typename T>
  ScanProblem<T> problem() const {
    using M = Math<T>;
    return {length(),
            directions(),
            channels(),
            states(),
            groups(),
            u.dim() == 4,
            merge,
            delta_softplus,
            order.data(),
            step.empty() ? nullptr : step.data(),
            strided<const T>(u),
            strided<const T>(delta),
            strided<const T>(B, true),
            strided<const T>(C, true),
            strided<const T>(z),
            data<M>(A),
            data<M>(D),
            data<M>(delta_bias),
            data<M>(initial_state)};
  }
};

ScanInputs inputs_1d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                     const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                     bool delta_softplus, const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  ScanInputs in(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state,
                ops::scan_order("forward", 1, u.size(1)));
  if (seq_idx) in.step = step_kinds(*seq_idx);
  return in;
}

ScanInputs inputs_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                     const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                     c10::string_view scan, int64_t height, int64_t width, bool merge) {
  ScanInputs in(u, delta, A, B, C, D, {}, delta_bias, delta_softplus, {}, ops::scan_order(scan, height, width));
  in.merge = merge;
  return in;
}

// How the rows and the blocks are cut into shares of work.
struct Shares {
  int64_t rows, blocks, row_parts, slices;

  int64_t count() const { return row_parts * slices; }
  int64_t row_part(int64_t i) const { return i / slices; }
  int64_t slice(int64_t i) const { return i % slices; }
  Share operator[](int64_t i) const {
    const int64_t r = row_part(i), s = slice(i);
    return {rows * r / row_parts, rows * (r + 1) / row_parts, blocks * s / slices, blocks * (s + 1) / slices};
  }
};

// As many shares as are worth a thread: a million states' steps each, but no more than many threads need.
int64_t shares_of(const ScanInputs& in) {
  constexpr int64_t kStepsAShare = 1 << 20, kMost = 64;
  const int64_t steps = in.rows() * in.length() * in.directions() * in.channels() * in.states();
  return std::clamp<int64_t>(steps / kStepsAShare, 1, kMost);
}

// By strips of channels first, since rows that follow each other share a block's parameters.
Shares forward_shares(const ScanInputs& in, int64_t lanes) {
  constexpr int64_t kBlocksAStrip = 8;
  const int64_t rows = in.rows(), blocks = in.blocks(lanes), wanted = shares_of(in);
  const int64_t slices = std::max<int64_t>(std::min(wanted, blocks / kBlocksAStrip), 1);
  return {rows, blocks, std::min(rows, (wanted + slices - 1) / slices), slices};
}

// By rows first. Every slice of channels has its own part of dB and dC, every part of the rows its own of dA. There is
// one of each, which becomes the gradient, or those of dB and dC take 2 slices G / D <= 1/32 and those of dA
// row_parts / (rows L) <= 1/64 of a tensor of all states. Beside them a thread keeps, of up to kStrip blocks of one
// row, the states that tiles start from: a 32nd of theirs.
Shares backward_shares(const ScanInputs& in, int64_t lanes) {
  const int64_t rows = in.rows(), blocks = in.blocks(lanes), wanted = shares_of(in);
  const int64_t row_parts = std::min({rows, wanted, std::max<int64_t>(rows * in.length() / 64, 1)});
  const int64_t slices =
      std::min({blocks, wanted / std::max<int64_t>(row_parts, 1), in.channels() / (64 * in.groups())});
  return {rows, blocks, row_parts, std::max<int64_t>(slices, 1)};
}

template <typename Work>
void for_each_share(const Shares& shares, const Work& work) {
  at::parallel_for(0, shares.count(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work(i);
  });
}

void run_forward(const ScanInputs& in, const Tensor& y, const Tensor& final_state) {
  with_storage(in.u.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const auto lanes = kernels<T>();
    const auto problem = in.problem<T>();
    const ScanOutput<T> out{strided<T>(y), mutable_data<Math<T>>(final_state)};
    const Shares shares = forward_shares(in, lanes.lanes);
    for_each_share(shares, [&](int64_t i) { lanes.forward(problem, out, shares[i]); });
  });
}

std::tuple<Tensor, Tensor> selective_scan(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                          const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                          const OptionalTensor& delta_bias, bool delta_softplus,
                                          const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  ops::check_selective_scan(u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  const auto in = inputs_1d(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
  const Tensor y = at::empty(u.sizes(), u.options());
  const Tensor final_state = at::empty({u.size(0), u.size(2), A.size(1)}, in.math_options());
  run_forward(in, y, final_state);
  return {y, final_state};
}

Tensor selective_scan_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                         const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                         c10::string_view scan, int64_t height, int64_t width, bool merge) {
  ops::check_selective_scan_2d(u, delta, A, B, C, D, delta_bias, scan, height, width);
  const auto in = inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge);
  const Tensor y =
      merge ? at::empty({u.size(0), u.size(1), in.channels()}, u.options()) : at::empty(delta.sizes(), delta.options());
  run_forward(in, y, Tensor());
  return y;
}

// Of the large tensors in their types, of the small ones in the type of the arithmetic.
using Gradients = ops::ScanGradientTensors;

// Where part i of a tensor of parts is.
template <typename M>
M* part(const Tensor& parts, int64_t i) {
  return parts.defined() ? parts.mutable_data_ptr<M>() + i * parts.stride(0) : nullptr;
}
template <typename M>
Strided<M> grouped_part(const Tensor& parts, int64_t i) {
  const bool directed = parts.dim() == 6;
  return {part<M>(parts, i), parts.stride(1), parts.stride(2), directed ? parts.stride(3) : 0, parts.stride(-2)};
}

template <typename T>
void run_backward(const ScanInputs& in, const ScanKernels<T>& lanes, const Shares& shares, const Tensor& dy,
                  const Tensor& dfinal, const Gradients& g) {
  using M = Math<T>;
  const auto problem = in.problem<T>();
  for_each_share(shares, [&](int64_t i) {
    const int64_t slice = shares.slice(i), rows = shares.row_part(i);
    const ScanGradients<T> pointers{strided<const T>(dy),
                                    data<M>(dfinal),
                                    strided<T>(g.du),
                                    strided<T>(g.ddelta),
                                    strided<T>(g.dz),
                                    grouped_part<M>(g.dB, slice),
                                    grouped_part<M>(g.dC, slice),
                                    part<M>(g.dA, rows),
                                    part<M>(g.dD, rows),
                                    part<M>(g.dbias, rows),
                                    mutable_data<M>(g.dinitial)};
    lanes.backward(problem, pointers, shares[i]);
  });
}

Tensor added_up(const Tensor& parts) {
  return !parts.defined() ? parts : parts.size(0) == 1 ? parts.select(0, 0) : sum_of_parts(parts);
}

Gradients backward(const ScanInputs& in, const Tensor& dy, const OptionalTensor& dfinal, const Wanted<9>& wanted) {
  const auto options = in.math_options();
  Gradients g;
  g.du = at::empty(in.u.sizes(), in.u.options());
  g.ddelta = at::empty(in.delta.sizes(), in.delta.options());
  if (in.z.defined()) g.dz = at::empty(in.z.sizes(), in.z.options());
  if (wanted[8] && in.initial_state.defined()) g.dinitial = at::empty(in.initial_state.sizes(), options);
  with_storage(in.u.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const auto lanes = kernels<T>();
    const Shares shares = backward_shares(in, lanes.lanes);
    std::vector<int64_t> parts(in.B.sizes().begin(), in.B.sizes().end());
    parts.insert(parts.begin(), shares.slices);
    g.dB = at::zeros(parts, options);
    g.dC = at::zeros(parts, options);
    const std::vector<int64_t> own{shares.row_parts, in.directions(), in.channels()};
    if (wanted[2]) g.dA = at::empty({own[0], own[1], own[2], in.states()}, options);
    if (wanted[5] && in.D.defined()) g.dD = at::empty(own, options);
    if (wanted[7] && in.delta_bias.defined()) g.dbias = at::empty(own, options);
    run_backward<T>(in, lanes, shares, readable(dy), ops::in_math_type(dfinal, ops::math_type(in.u)), g);
  });
  for (Tensor* sum : {&g.dA, &g.dB, &g.dC, &g.dD, &g.dbias}) *sum = added_up(*sum);
  return g;
}

ops::ScanGradientTuple selective_scan_backward(const Tensor& dy, const OptionalTensor& dfinal, const Tensor& u,
                                               const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                                               const OptionalTensor& D, const OptionalTensor& z,
                                               const OptionalTensor& delta_bias, bool delta_softplus,
                                               const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                               Wanted<9> wanted) {
  ops::check_selective_scan_backward(dy, dfinal, u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx);
  const auto in = inputs_1d(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, seq_idx);
  return ops::like_arguments(backward(in, dy, dfinal, wanted), wanted, u, delta, A, B, C, D, z, delta_bias,
                             initial_state);
}

ops::Scan2dGradientTuple selective_scan_2d_backward(const Tensor& dy, const Tensor& u, const Tensor& delta,
                                                    const Tensor& A, const Tensor& B, const Tensor& C,
                                                    const OptionalTensor& D, const OptionalTensor& delta_bias,
                                                    bool delta_softplus, c10::string_view scan, int64_t height,
                                                    int64_t width, bool merge, Wanted<7> wanted) {
  ops::check_selective_scan_2d_backward(dy, u, delta, A, B, C, D, delta_bias, scan, height, width, merge);
  const auto in = inputs_2d(u, delta, A, B, C, D, delta_bias, delta_softplus, scan, height, width, merge);
  return ops::like_arguments(backward(in, dy, {}, ops::wanted_of_2d(wanted)), wanted, u, delta, A, B, C, D, delta_bias);
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("selective_scan", selective_scan);
  m.impl("selective_scan_2d", selective_scan_2d);
  m.impl("selective_scan_backward", selective_scan_backward);
  m.impl("selective_scan_2d_backward", selective_scan_2d_backward);
}

}  // namespace vlmamba::cpu
