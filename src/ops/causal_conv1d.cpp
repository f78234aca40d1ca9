// The causal convolutions, made of differentiable ATen ops, which serve every device and autograd.

#include "vlmamba/ops/causal_conv1d.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "src/ops/check.h"
#include "vlmamba/ops/cross_scan.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor activated(const char* op, const Tensor& y, c10::string_view activation) {
  TORCH_CHECK(activation == "none" || activation == "silu", "[", op, "] activation: expected none or silu, got ",
              std::string(activation));
  return activation == "silu" ? at::silu(y) : y;
}

// Number of the run that each position belongs to, 0 for what the initial state precedes; -1 at padding. [B,L]
Tensor run_numbers(const Tensor& seq_idx) {
  Tensor before = at::full_like(seq_idx.slice(1, 0, 1), -1);
  before = at::cat({before, seq_idx.slice(1, 0, -1)}, 1);
  const Tensor starts = seq_idx.ge(0).logical_and(seq_idx.ne(before));
  return at::where(seq_idx.ge(0), starts.cumsum(1) - 1, -1);
}

// The last W-1 inputs of the last run of each row.
Tensor last_inputs(const Tensor& extended, const Tensor& run, int64_t taps) {
  const int64_t length = run.size(1);
  const Tensor position = at::arange(length, run.options()).expand_as(run);
  const Tensor last = at::where(run.ge(0), position, -1).amax(1);                       // [B], -1: all padding
  const Tensor at_last = run.gather(1, last.clamp_min(0).unsqueeze(1)).clamp_min(0);    // [B,1]
  const Tensor index = last.unsqueeze(1) + at::arange(1, taps + 1, run.options());      // [B,W-1] into extended
  const Tensor history = at::zeros({run.size(0), taps}, run.options());                 // the initial state is of run 0
  const Tensor extended_run = at::cat({history, run}, 1);
  const Tensor same = extended_run.gather(1, index).eq(at_last).unsqueeze(-1);
  const Tensor inputs = extended.gather(1, index.unsqueeze(-1).expand({-1, -1, extended.size(2)}));
  return at::where(same, inputs, at::zeros({}, extended.options()));
}

std::tuple<Tensor, Tensor> conv(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                c10::string_view activation) {
  constexpr const char* op = "causal_conv1d";
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize, kAnySize});
  check_shape(op, "weight", weight, {x.sym_size(2), kAnySize});
  if (bias) check_shape(op, "bias", *bias, {x.sym_size(2)});
  const int64_t length = x.size(1), taps = weight.size(1) - 1;
  TORCH_CHECK(taps >= 0, "[", op, "] weight: expected a width of 1 or more, got 0");
  if (initial_state) check_shape(op, "initial_state", *initial_state, {x.sym_size(0), taps, x.sym_size(2)});
  if (seq_idx) check_shape(op, "seq_idx", *seq_idx, {x.sym_size(0), x.sym_size(1)});

  const Tensor before = initial_state ? *initial_state : at::zeros({x.size(0), taps, x.size(2)}, x.options());
  const Tensor run = seq_idx ? run_numbers(*seq_idx) : Tensor();
  const Tensor zero = at::zeros({}, x.options());
  const Tensor read = run.defined() ? at::where(run.ge(0).unsqueeze(-1), x, zero) : x;
  const Tensor extended = at::cat({before, read}, 1);  // [B, W-1+L, D]
  const auto type = math_type(x);
  Tensor y = bias ? bias->to(type).expand({x.size(0), length, -1}) : at::zeros({}, x.options().dtype(type));
  const Tensor extended_run =
      run.defined() ? at::cat({at::zeros({x.size(0), taps}, run.options()), run}, 1) : Tensor();
  for (int64_t w = 0; w <= taps; ++w) {
    Tensor tap = extended.slice(1, w, w + length);
    if (run.defined()) tap = at::where(extended_run.slice(1, w, w + length).eq(run).unsqueeze(-1), tap, zero);
    y = y + tap.to(type) * weight.select(1, w).to(type);
  }
  y = activated(op, y, activation).to(x.scalar_type());
  if (run.defined()) y = at::where(run.ge(0).unsqueeze(-1), y, zero);
  if (length == 0 || taps == 0) return {y, before.clone()};
  return {y, run.defined() ? last_inputs(extended, run, taps) : extended.slice(1, length).clone()};
}

Tensor conv_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, c10::string_view scan, int64_t height,
               int64_t width, c10::string_view activation) {
  const Tensor sequences = cross_scan(x, scan, height, width);  // [B,K,L,D]
  const int64_t directions = sequences.size(1);
  std::vector<Tensor> outputs;
  for (int64_t k = 0; k < directions; ++k) {
    const Tensor own_weight = weight.dim() == 3 ? weight.select(0, k) : weight;
    const OptionalTensor own_bias = bias && bias->dim() == 2 ? bias->select(0, k) : bias;
    const Tensor y = std::get<0>(conv(sequences.select(1, k), own_weight, own_bias, {}, {}, activation));
    const Tensor order = cross_scan(at::arange(x.size(1), x.options().dtype(at::kLong)).view({1, -1, 1}), scan, height, width)
                             .select(1, k)
                             .flatten();
    outputs.push_back(y.index_select(1, order.argsort(int64_t{0}, /*descending=*/false)));
  }
  return at::stack(outputs, 2);
}

Tensor update(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias, c10::string_view activation) {
  constexpr const char* op = "causal_conv1d_update";
  check_shape(op, "x", x, {kAnySize, kAnySize});
  check_shape(op, "weight", weight, {x.sym_size(1), kAnySize});
  check_shape(op, "state", state, {x.sym_size(0), weight.sym_size(1) - 1, x.sym_size(1)});
  TORCH_CHECK(!(at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())), "[", op,
              "] inputs: expected no gradients (use causal_conv1d for training), got one that requires grad");
  const Tensor window = at::cat({state.to(x.scalar_type()), x.unsqueeze(1)}, 1);  // [B,W,D]
  state.copy_(window.slice(1, 1));
  Tensor y = (window.to(math_type(x)) * weight.t().to(math_type(x))).sum(1);
  if (bias) y = y + bias->to(math_type(x));
  return activated(op, y, activation).to(x.scalar_type());
}

}  // namespace

std::tuple<Tensor, Tensor> causal_conv1d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                         std::string_view activation) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("vlmamba::causal_conv1d", "").typed<decltype(conv)>();
  return op.call(x, weight, bias, initial_state, seq_idx, activation);
}

Tensor causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view scan,
                        int64_t height, int64_t width, std::string_view activation) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vlmamba::causal_conv1d_2d", "")
                             .typed<Tensor(const Tensor&, const Tensor&, const OptionalTensor&, c10::string_view, c10::SymInt,
                                           c10::SymInt, c10::string_view)>();
  return op.call(x, weight, bias, scan, height, width, activation);
}

Tensor causal_conv1d_update(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                            std::string_view activation) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("vlmamba::causal_conv1d_update", "").typed<decltype(update)>();
  return op.call(x, state, weight, bias, activation);
}

TORCH_LIBRARY_FRAGMENT(vlmamba, m) {
  m.def(
      "causal_conv1d(Tensor x, Tensor weight, Tensor? bias=None, Tensor? initial_state=None, Tensor? seq_idx=None, *, "
      "str activation=\"none\") -> (Tensor y, Tensor final_state)");
  m.def(
      "causal_conv1d_2d(Tensor x, Tensor weight, Tensor? bias=None, *, str scan, SymInt height, SymInt width, "
      "str activation=\"none\") -> Tensor");
  m.def(
      "causal_conv1d_update(Tensor x, Tensor(a!) state, Tensor weight, Tensor? bias=None, *, str activation=\"none\") "
      "-> Tensor");
}

TORCH_LIBRARY_IMPL(vlmamba, CompositeImplicitAutograd, m) {
  m.impl("causal_conv1d", conv);
  m.impl("causal_conv1d_2d", conv_2d);
}
TORCH_LIBRARY_IMPL(vlmamba, CompositeExplicitAutograd, m) { m.impl("causal_conv1d_update", update); }

}  // namespace vlmamba::ops
