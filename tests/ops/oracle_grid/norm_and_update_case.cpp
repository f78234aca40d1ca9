// Random norms, and random steps of decoding.

#include "tests/ops/oracle_grid/scan_cases.h"

namespace vlmamba::oracle {
namespace {

using at::Tensor;
using Norm = Tensor(const Tensor&, const Tensor&, double);
using NormBackward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double,
                                                std::array<bool, 2>);
using AddNorm = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double);
using AddNormBackward = std::tuple<Tensor, Tensor>(const OptionalTensor&, const OptionalTensor&, const Tensor&,
                                                   const Tensor&, double, std::array<bool, 2>);
using StateUpdate = Tensor(Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                           const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool);
using ConvUpdate = Tensor(const Tensor&, Tensor&, const Tensor&, const OptionalTensor&, c10::string_view);

template <typename M>
Numbers<M> in_rows(const Tensor& x) {
  return numbers<M>(x.reshape({-1, x.size(-1)}));
}

template <typename M>
Numbers<M> sum(const Numbers<M>& a, const Numbers<M>& b) {
  Numbers<M> result = a;
  for (size_t i = 0; i < a.values().size(); ++i) result.values()[i] = a.values()[i] + b.values()[i];
  return result;
}

template <typename M>
void compare_rows(Case& c, const std::string& name, const Tensor& got, const Numbers<M>& expected,
                  at::ScalarType type) {
  c.compare(name, got.defined() ? got.reshape({-1, got.size(-1)}) : got, expected, type);
}

template <typename M>
void check_norm(Case& c, at::ScalarType type, at::IntArrayRef shape, double eps) {
  const double scale = c.pick<double>("scale", {1, 1e-4, 100});
  OptionalTensor x = c.normal(shape, type, scale), weight = c.normal({shape.back()}, c.weight_type(type));
  const auto wanted = want_gradients(c, {&x, &weight});
  const auto backward = [&](const Tensor& input, const Tensor& dy, const std::vector<bool>& of) -> Tensors {
    const auto [dx, dweight] =
        c.call<NormBackward>("vlmamba::rms_norm_backward", dy, input, *weight, eps, mask_of<2>(of));
    return {dx, dweight};
  };
  const Tensor y = c.call<Norm>("vlmamba::rms_norm", *x, *weight, eps);
  const auto rows = in_rows<M>(*x), w = numbers<M>(weight);
  compare_rows(c, "y", y, rms_norm(rows, w, eps), type);
  Differentiated d;
  if (c.setting.emulated) {
    d.cotangents = {c.normal(shape, type)};
    d.gradients = backward(*x, d.cotangents[0], wanted);
  } else {
    d = differentiate(c, {y}, {&x, &weight}, wanted);
  }
  const auto expected = rms_norm_backward(rows, w, eps, in_rows<M>(d.cotangents[0]));
  if (wanted[0]) compare_rows(c, "dx", d.gradients[0], expected.x, type);
  if (wanted[1]) c.compare("dweight", d.gradients[1], expected.weight, weight->scalar_type());
  c.expect_repeatable({{{"y", true, false}, {"dx", true, false}, {"dweight", false, false}},
                       {{x}, {d.cotangents[0]}},
                       [&](const std::vector<OptionalTensor>& inputs) {
                         const c10::NoGradGuard no_grad;
                         Tensors results = backward(*inputs[0], *inputs[1], {});
                         results.insert(results.begin(), c.call<Norm>("vlmamba::rms_norm", *inputs[0], *weight, eps));
                         return results;
                       }},
                      {y, wanted[0] ? d.gradients[0] : Tensor(), wanted[1] ? d.gradients[1] : Tensor()});
}

template <typename M>
void check_add_norm(Case& c, at::ScalarType type, at::IntArrayRef shape, double eps) {
  const auto math = type == at::kDouble ? at::kDouble : at::kFloat;
  OptionalTensor x = c.normal(shape, type), weight = c.normal({shape.back()}, c.weight_type(type));
  OptionalTensor residual = c.normal(shape, c.flag("narrow_residual") ? type : math, 3);
  const auto wanted = want_gradients(c, {&x, &residual, &weight});
  const auto [y, total] = c.call<AddNorm>("vlmamba::add_rms_norm", *x, *residual, *weight, eps);
  const auto sums = sum(in_rows<M>(*x), in_rows<M>(*residual)), w = numbers<M>(weight);
  compare_rows(c, "residual_out", total, sums, math);
  // From the rounded sum, as the formula says: what follows reads residual_out.
  const auto rounded = in_rows<M>(total.to(at::kDouble));
  compare_rows(c, "y", y, rms_norm(rounded, w, eps), type);
  Differentiated d;
  if (c.setting.emulated) {
    d.cotangents = {c.normal(shape, type), c.normal(shape, math)};
    const auto [dtotal, dw] = c.call<AddNormBackward>("vlmamba::add_rms_norm_backward", d.cotangents[0],
                                                      d.cotangents[1], total, *weight, eps, std::array{true, true});
    d.gradients = {dtotal.to(type), dtotal.to(residual->scalar_type()), dw};
  } else {
    d = differentiate(c, {y, total}, {&x, &residual, &weight}, wanted);
  }
  Numbers<M> dsum(rounded.shape()), dweight(w.shape());
  if (d.cotangents[0].defined()) {
    const auto gradients = rms_norm_backward(rounded, w, eps, in_rows<M>(d.cotangents[0]));
    dsum = gradients.x;
    dweight = gradients.weight;
  }
  if (d.cotangents[1].defined()) dsum = sum(dsum, in_rows<M>(d.cotangents[1]));
  if (wanted[0]) compare_rows(c, "dx", d.gradients[0], dsum, type);
  if (wanted[1]) compare_rows(c, "dresidual", d.gradients[1], dsum, residual->scalar_type());
  if (wanted[2] && d.cotangents[0].defined()) c.compare("dweight", d.gradients[2], dweight, weight->scalar_type());
  c.expect_repeatable(
      {{{"y", true, false}, {"residual_out", true, false}, {"dsum", true, false}},
       {{x}, {residual}, {d.cotangents[0].defined() ? d.cotangents[0] : at::zeros_like(y)}},
       [&](const std::vector<OptionalTensor>& inputs) -> Tensors {
         const c10::NoGradGuard no_grad;
         const auto [again, sum] = c.call<AddNorm>("vlmamba::add_rms_norm", *inputs[0], *inputs[1], *weight, eps);
         const auto [dsum, dw] = c.call<AddNormBackward>("vlmamba::add_rms_norm_backward", inputs[2], OptionalTensor(),
                                                         sum, *weight, eps, std::array{true, false});
         return {again, sum, dsum};
       }},
      {y, total, {}});
}

// A step is a scan of length one.
template <typename M>
void check_state_update(Case& c) {
  auto t = draw_scan(c, draw_sizes(c, 1, 1), /*map=*/false, false);
  t.seq_idx = {};
  if (!t.initial_state) t.initial_state = c.normal({t.u->size(0), t.u->size(2), t.A->size(1)}, t.math);
  if ((t.type == at::kDouble) != std::is_same_v<M, double>) return;
  Tensor state = t.initial_state->clone();
  const Tensor y = c.call<StateUpdate>("vlmamba::selective_state_update", state, t.u->select(1, 0),
                                       t.delta->select(1, 0), *t.A, t.B->select(1, 0), t.C->select(1, 0), t.D,
                                       t.z ? OptionalTensor(t.z->select(1, 0)) : t.z, t.delta_bias, t.delta_softplus);
  const auto expected = selective_scan(t.exact<M>());
  c.compare("y", y.unsqueeze(1), expected.y, t.type);
  c.compare("state", state, expected.final_state, t.math);
  const auto step = [](const OptionalTensor& x) { return x ? OptionalTensor(x->select(1, 0)) : x; };
  c.expect_repeatable({{{"y", true, true}, {"state", true, false}},
                       {{step(t.u)}, {step(t.delta)}, {step(t.z)}, {t.initial_state, false}},
                       [&](const std::vector<OptionalTensor>& inputs) -> Tensors {
                         Tensor own = inputs[3]->clone();
                         const Tensor again = c.call<StateUpdate>(
                             "vlmamba::selective_state_update", own, *inputs[0], *inputs[1], *t.A, t.B->select(1, 0),
                             t.C->select(1, 0), t.D, inputs[2], t.delta_bias, t.delta_softplus);
                         return {again, own};
                       }},
                      {y, state});
}

template <typename M>
void check_conv_update(Case& c, at::ScalarType type) {
  const auto W = c.pick<int64_t>("W", {1, 2, 3, 4, 4, 5, 8}), D = c.pick<int64_t>("D", {1, 3, 8, 16, 17, 33, 100});
  const auto B = c.pick<int64_t>("B", {0, 1, 2, 5});
  const auto activation = c.pick<std::string>("activation", {"none", "silu"});
  const Tensor x = c.normal({B, D}, type), weight = c.normal({D, W}, c.weight_type(type));
  const Tensor given = c.normal({B, W - 1, D}, type);
  Tensor state = given.clone();
  const auto bias = c.flag("bias") ? OptionalTensor(c.normal({D}, c.weight_type(type))) : OptionalTensor();
  const ConvInputs<M> exact{numbers<M>(x.unsqueeze(1)), numbers<M>(weight), numbers<M>(bias), numbers<M>(state), {},
                            activation == "silu"};
  const Tensor y = c.call<ConvUpdate>("vlmamba::causal_conv1d_update", x, state, weight, bias, activation);
  const auto expected = causal_conv1d(exact);
  c.compare("y", y.unsqueeze(1), expected.y, type);
  c.compare("state", state, expected.final_state, type);
  c.expect_repeatable({{{"y", true, true}, {"state", true, true}},
                       {{x}, {given}},
                       [&](const std::vector<OptionalTensor>& inputs) -> Tensors {
                         Tensor own = inputs[1]->clone();
                         const Tensor again = c.call<ConvUpdate>("vlmamba::causal_conv1d_update", *inputs[0], own,
                                                                 weight, bias, activation);
                         return {again, own};
                       }},
                      {y, state});
}

}  // namespace

void norm_case(Case& c) {
  const bool add = c.flag("add");
  const auto type = c.input_type();
  const double eps = c.pick<double>("eps", {1e-5, 1e-6, 1e-3});
  const auto D = c.pick<int64_t>("D", {1, 2, 3, 8, 15, 16, 17, 64, 100, 257, 1000});
  const auto R = c.pick<int64_t>("rows", {0, 1, 2, 5, 12});
  const auto shape = c.chance(0.5) ? std::vector<int64_t>{R, D} : std::vector<int64_t>{2, R, D};
  const auto check = [&](auto check_float, auto check_double) {
    type == at::kDouble ? check_double(c, type, shape, eps) : check_float(c, type, shape, eps);
  };
  add ? check(check_add_norm<float>, check_add_norm<double>) : check(check_norm<float>, check_norm<double>);
}

void update_case(Case& c) {
  if (c.flag("conv", 0.4)) {
    const auto type = c.input_type();
    return type == at::kDouble ? check_conv_update<double>(c, type) : check_conv_update<float>(c, type);
  }
  c.flag("fp64", 0.2) ? check_state_update<double>(c) : check_state_update<float>(c);
}

}  // namespace vlmamba::oracle
