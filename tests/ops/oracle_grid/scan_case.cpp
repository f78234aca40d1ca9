// Random selective scans: values, gradients, repeated runs, and NaN that must stay where it is.

#include <ATen/Parallel.h>

#include <limits>

#include "tests/ops/oracle_grid/scan_cases.h"

namespace vlmamba::oracle {
namespace {

using at::Tensor;
using Forward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                           const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool,
                                           const OptionalTensor&, const OptionalTensor&);
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
    const Tensor&, const OptionalTensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
    const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool, const OptionalTensor&,
    const OptionalTensor&, std::array<bool, 9>);

struct Run {
  std::vector<Tensor> outputs;  // y, final_state
  Differentiated differentiated;
};

std::vector<Tensor> forward(const Case& c, const ScanTensors& t) {
  const auto [y, last] = c.call<Forward>("vlmamba::selective_scan", *t.u, *t.delta, *t.A, *t.B, *t.C, t.D, t.z,
                                         t.delta_bias, t.delta_softplus, t.initial_state, t.seq_idx);
  return {y, last};
}

// The gradients for given cotangents; undefined ones are none.
std::vector<Tensor> backward(const Case& c, const ScanTensors& t, const std::vector<Tensor>& outputs,
                             const std::vector<Tensor>& cotangents, const std::vector<bool>& wanted = {}) {
  const Tensor dy = cotangents[0].defined() ? cotangents[0] : at::zeros_like(outputs[0]);
  const auto dlast = cotangents[1].defined() ? OptionalTensor(cotangents[1]) : OptionalTensor();
  const auto [du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial] =
      c.call<Backward>("vlmamba::selective_scan_backward", dy, dlast, *t.u, *t.delta, *t.A, *t.B, *t.C, t.D, t.z,
                       t.delta_bias, t.delta_softplus, t.initial_state, t.seq_idx, mask_of<9>(wanted));
  return {du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial};
}

Run run(Case& c, ScanTensors& t, const std::vector<bool>& wanted) {
  Run result{forward(c, t), {}};
  if (!c.setting.emulated) {
    result.differentiated = differentiate(c, result.outputs, t.differentiable(), wanted);
    return result;
  }
  result.differentiated.cotangents = {c.normal(t.u->sizes(), t.type), c.normal(result.outputs[1].sizes(), t.math)};
  result.differentiated.gradients = backward(c, t, result.outputs, result.differentiated.cotangents, wanted);
  return result;
}

// Where NaN is put, as masks: by position [B,L,1], and what of each result it may reach.
struct Poison {
  Tensor input;                                 // of u's shape
  Tensor position, state, channel, row_groups;  // masks over [B,L,D], [B,D,N], [D,...], [B,L,G,N]
};

Poison draw_poison(Case& c, const ScanTensors& t) {
  const auto sizes = t.u->sizes();
  const int64_t rows = sizes[0], L = sizes[1], D = sizes[2], N = t.A->size(1), G = t.B->size(2);
  const int64_t b = c.integer(0, rows - 1), d = c.integer(0, D - 1), first = c.integer(0, L - 1);
  const bool one_channel = c.flag("NaN_channel");
  Poison p{at::zeros(sizes, at::kBool), at::zeros(sizes, at::kBool), at::zeros({rows, D, N}, at::kBool),
           at::zeros({D}, at::kBool), at::zeros({rows, L, G, N}, at::kBool)};
  if (one_channel) {  // one channel of one row from some position on
    p.input[b].slice(0, first).select(1, d).fill_(true);
    p.position[b].select(1, d).fill_(true);
    p.state[b][d].fill_(true);
    p.channel[d].fill_(true);
    p.row_groups[b].select(1, d / (D / G)).fill_(true);
    return p;
  }
  c.note("NaN_row", b);
  int64_t last = L - 1, begin = 0;  // one run of a packed row, or the whole row
  bool ends = true, starts = true;
  if (t.seq_idx) {
    const auto row = ids(t.seq_idx);
    begin = last = first;
    while (begin > 0 && row(b, begin - 1) == row(b, first)) --begin;
    while (last + 1 < L && row(b, last + 1) == row(b, first)) ++last;
    for (int64_t i = last + 1; i < L; ++i) ends = ends && row(b, i) < 0;
    for (int64_t i = 0; i < begin; ++i) starts = starts && row(b, i) < 0;
    if (row(b, first) < 0) begin = last + 1;  // padding: reaches nothing
  }
  p.input[b][first].fill_(true);
  if (begin > last) return p;
  p.position[b].slice(0, begin, last + 1).fill_(true);
  p.row_groups[b].slice(0, begin, last + 1).fill_(true);
  p.channel.fill_(true);
  if (ends || starts) p.state[b].fill_(true);
  return p;
}

// NaN in one channel, row or sequence changes no bit of the others.
void expect_contained(Case& c, ScanTensors t, const Run& clean) {
  if (t.u->numel() == 0 || t.A->numel() == 0) return;
  const auto p = draw_poison(c, t);
  const auto poisoned = [&](const Tensor& x) {
    return x.detach().masked_fill(p.input.to(x.device()), std::numeric_limits<double>::quiet_NaN());
  };
  for (auto* input : t.differentiable())
    if (*input) *input = (*input)->detach();
  t.u = poisoned(*t.u);
  if (c.chance(0.5)) t.delta = poisoned(*t.delta);
  if (t.z && c.chance(0.5)) t.z = poisoned(*t.z);
  const auto outputs = forward(c, t);
  c.expect_same("y beside NaN", outputs[0], clean.outputs[0], p.position);
  c.expect_same("final_state beside NaN", outputs[1], clean.outputs[1], p.state);
  if (!clean.differentiated.gradients[0].defined()) return;
  const auto dirty = backward(c, t, outputs, clean.differentiated.cotangents);
  const std::vector<Tensor> masks{p.position,   p.position,   p.channel.unsqueeze(-1),
                                  p.row_groups, p.row_groups, p.channel,
                                  p.position,   p.channel,    p.state};
  for (size_t i = 0; i < dirty.size(); ++i)
    if (clean.differentiated.gradients[i].defined() && clean.differentiated.gradients[i].numel() > 0)
      c.expect_same(std::string(kScanNames[i]) + " beside NaN", dirty[i], clean.differentiated.gradients[i], masks[i]);
}

template <typename M>
void check(Case& c, ScanTensors& t) {
  const auto inputs = t.differentiable();
  const auto wanted = want_gradients(c, inputs);
  const auto result = run(c, t, wanted);
  const auto exact = t.exact<M>();
  const auto expected = selective_scan(exact);
  c.compare("y", result.outputs[0], expected.y, t.type);
  c.compare("final_state", result.outputs[1], expected.final_state, t.math);
  const auto& cotangents = result.differentiated.cotangents;
  const auto dy = numbers<M>(cotangents[0]), dlast = numbers<M>(cotangents[1]);
  compare_gradients(c, t, inputs, wanted, result.differentiated.gradients, selective_scan_backward(exact, dy, dlast));

  const int before = at::get_num_threads();
  const auto threads = static_cast<int>(c.integer(1, 5));
  at::set_num_threads(threads == before ? threads + 1 : threads);
  const auto again = forward(c, t);
  const auto gradients = backward(c, t, again, cotangents);
  at::set_num_threads(before);
  for (size_t i = 0; i < again.size(); ++i)
    c.expect_same(i == 0 ? "y again" : "final_state again", again[i], result.outputs[i]);
  for (size_t i = 0; i < gradients.size(); ++i)
    if (wanted[i] && result.differentiated.gradients[i].defined())
      c.expect_same(std::string(kScanNames[i]) + " again", gradients[i], result.differentiated.gradients[i]);
  if (c.chance(0.5)) expect_contained(c, t, result);
}

}  // namespace

void selective_scan_case(Case& c) {
  const auto length = c.pick<int64_t>("length", {0,  1,  2,  3,  4,  5,  7,   8,   9,   15,  16,  17,  31, 32,
                                                 33, 50, 63, 64, 65, 97, 127, 128, 129, 200, 256, 257, 300});
  auto t = draw_scan(c, draw_sizes(c, 1, length), /*map=*/false, false);
  t.type == at::kDouble ? check<double>(c, t) : check<float>(c, t);
}

}  // namespace vlmamba::oracle
