// Random causal convolutions, along rows and along the directions of a map.

#include "tests/ops/oracle_grid/scan_cases.h"

namespace vlmamba::oracle {
namespace {

using at::Tensor;
using Forward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                           const OptionalTensor&, c10::string_view);
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const OptionalTensor&, const Tensor&,
                                                            const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                                            const OptionalTensor&, c10::string_view,
                                                            std::array<bool, 4>);
using Forward2d = Tensor(const Tensor&, const Tensor&, const OptionalTensor&, c10::string_view, c10::SymInt,
                         c10::SymInt, c10::string_view);
using Backward2d = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                      const OptionalTensor&, c10::string_view, c10::SymInt, c10::SymInt,
                                                      c10::string_view, std::array<bool, 3>);

constexpr const char* kNames[] = {"dx", "dweight", "dbias", "dinitial"};

struct ConvTensors {
  at::ScalarType type;
  OptionalTensor x, weight, bias, initial_state, seq_idx;
  std::string activation;

  std::vector<OptionalTensor*> differentiable() { return {&x, &weight, &bias, &initial_state}; }
  template <typename M>
  ConvInputs<M> exact() const {
    return {numbers<M>(x), numbers<M>(weight),  numbers<M>(bias), numbers<M>(initial_state),
            ids(seq_idx),  activation == "silu"};
  }
};

template <typename M>
void compare_gradients(Case& c, ConvTensors& t, const std::vector<bool>& wanted, const std::vector<Tensor>& got,
                       const ConvInputs<M>& exact) {
  const Numbers<M>* expected[] = {&exact.x, &exact.weight, &exact.bias, &exact.initial_state};
  const auto inputs = t.differentiable();
  for (size_t i = 0; i < got.size(); ++i)
    if (wanted[i]) c.compare(kNames[i], got[i], *expected[i], (*inputs[i])->scalar_type());
}

std::vector<Tensor> backward(const Case& c, const ConvTensors& t, const std::vector<Tensor>& outputs,
                             const std::vector<Tensor>& cotangents, const std::vector<bool>& wanted = {}) {
  const Tensor dy = cotangents[0].defined() ? cotangents[0] : at::zeros_like(outputs[0]);
  const auto dlast = cotangents[1].defined() ? OptionalTensor(cotangents[1]) : OptionalTensor();
  const auto [dx, dweight, dbias, dinitial] =
      c.call<Backward>("vlmamba::causal_conv1d_backward", dy, dlast, *t.x, *t.weight, t.bias, t.initial_state,
                       t.seq_idx, t.activation, mask_of<4>(wanted));
  return {dx, dweight, dbias, dinitial};
}

template <typename M>
void check(Case& c, ConvTensors& t) {
  const auto wanted = want_gradients(c, t.differentiable());
  const auto forward = [&](const ConvTensors& own) -> Tensors {
    const auto [y, last] = c.call<Forward>("vlmamba::causal_conv1d", *own.x, *own.weight, own.bias, own.initial_state,
                                           own.seq_idx, own.activation);
    return {y, last};
  };
  const auto outputs = forward(t);
  const auto exact = t.exact<M>();
  const auto expected = causal_conv1d(exact);
  c.compare("y", outputs[0], expected.y, t.type);
  c.compare("final_state", outputs[1], expected.final_state, t.type);
  Differentiated d;
  if (c.setting.emulated) {
    d.cotangents = {c.normal(outputs[0].sizes(), t.type), c.normal(outputs[1].sizes(), t.type)};
    d.gradients = backward(c, t, outputs, d.cotangents, wanted);
  } else {
    d = differentiate(c, outputs, t.differentiable(), wanted);
  }
  compare_gradients(c, t, wanted, d.gradients,
                    causal_conv1d_backward(exact, numbers<M>(d.cotangents[0]), numbers<M>(d.cotangents[1])));

  const auto some = [](const Tensor& x) { return x.defined() ? OptionalTensor(x) : OptionalTensor(); };
  const Computation all{
      {{"y", true, true},
       {"final_state", true, true},
       {"dx", true, true},
       {"dweight", false, false},
       {"dbias", false, false},
       {"dinitial", t.initial_state.has_value(), t.initial_state.has_value()}},
      {{t.x}, {t.initial_state}, {some(d.cotangents[0])}, {some(d.cotangents[1])}},
      [&](const std::vector<OptionalTensor>& inputs) {
        ConvTensors own = t;
        own.x = inputs[0], own.initial_state = inputs[1];
        const c10::NoGradGuard no_grad;
        Tensors results = forward(own);
        const auto g = backward(c, own, results, {inputs[2].value_or(Tensor()), inputs[3].value_or(Tensor())});
        results.insert(results.end(), g.begin(), g.end());
        return results;
      }};
  Tensors first = outputs;
  for (size_t i = 0; i < 4; ++i) first.push_back(wanted[i] ? d.gradients[i] : Tensor());
  c.expect_repeatable(all, first);
}

template <typename M>
void check_2d(Case& c, ConvTensors& t, const std::string& scan, const Map& map) {
  const auto wanted = want_gradients(c, t.differentiable());
  const auto forward = [&](const Tensor& x) {
    return c.call<Forward2d>("vlmamba::causal_conv1d_2d", x, *t.weight, t.bias, scan, map.height, map.width,
                             t.activation);
  };
  const auto backward = [&](const Tensor& x, const Tensor& dy, const std::vector<bool>& of) -> Tensors {
    const auto [dx, dweight, dbias] = c.call<Backward2d>("vlmamba::causal_conv1d_2d_backward", dy, x, *t.weight, t.bias,
                                                         scan, map.height, map.width, t.activation, mask_of<3>(of));
    return {dx, dweight, dbias};
  };
  const Tensor y = forward(*t.x);
  const auto exact = t.exact<M>();
  c.compare("y", y, causal_conv1d_2d(exact, map), t.type);
  Differentiated d;
  if (c.setting.emulated) {
    d.cotangents = {c.normal(y.sizes(), t.type)};
    d.gradients = backward(*t.x, d.cotangents[0], wanted);
  } else {
    d = differentiate(c, {y}, t.differentiable(), wanted);
  }
  compare_gradients(c, t, wanted, d.gradients, causal_conv1d_2d_backward(exact, map, numbers<M>(d.cotangents[0])));

  const Computation all{{{"y", true, true}, {"dx", true, true}, {"dweight", false, false}, {"dbias", false, false}},
                        {{t.x}, {d.cotangents[0]}},
                        [&](const std::vector<OptionalTensor>& inputs) {
                          const c10::NoGradGuard no_grad;
                          Tensors results = backward(*inputs[0], *inputs[1], {});
                          results.insert(results.begin(), forward(*inputs[0]));
                          return results;
                        }};
  Tensors first{y};
  for (size_t i = 0; i < 3; ++i) first.push_back(wanted[i] ? d.gradients[i] : Tensor());
  c.expect_repeatable(all, first);
}

ConvTensors draw(Case& c) {
  ConvTensors t;
  t.type = c.input_type();
  t.activation = c.pick<std::string>("activation", {"none", "silu"});
  return t;
}

}  // namespace

void causal_conv1d_case(Case& c) {
  auto t = draw(c);
  const auto W = c.pick<int64_t>("W", {1, 2, 3, 4, 4, 5, 7, 9});
  const auto D = c.pick<int64_t>("D", {1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 65, 100});
  const auto B = c.pick<int64_t>("B", {0, 1, 1, 2, 3});
  const auto L = c.pick<int64_t>("L", {0, 1, 2, 3, 4, 5, 6, 8, 9, 16, 17, 33, 64, 65, 130});
  t.x = c.normal({B, L, D}, t.type);
  t.weight = c.normal({D, W}, c.weight_type(t.type));
  if (c.flag("bias")) t.bias = c.normal({D}, c.weight_type(t.type));
  if (c.flag("initial")) t.initial_state = c.normal({B, W - 1, D}, t.type);
  t.seq_idx = c.sequences(B, L);
  t.type == at::kDouble ? check<double>(c, t) : check<float>(c, t);
}

void causal_conv1d_2d_case(Case& c) {
  auto t = draw(c);
  const auto scan = c.pick<std::string>("scan", {"forward", "bidirectional", "cross"});
  const Map map{directions(scan), c.pick<int64_t>("H", {1, 2, 3, 5, 8}), c.pick<int64_t>("W", {1, 2, 3, 4, 9})};
  const auto K = static_cast<int64_t>(map.directions.size()), L = map.height * map.width;
  const auto taps = c.pick<int64_t>("taps", {1, 2, 3, 4, 4, 6});
  const auto D = c.pick<int64_t>("D", {1, 2, 3, 8, 16, 17, 33, 64, 65});
  const auto B = c.pick<int64_t>("B", {0, 1, 2, 3});
  const auto own = [&](bool directed, std::vector<int64_t> shape) {
    if (directed) shape.insert(shape.begin(), K);
    return shape;
  };
  t.x = c.normal({B, L, D}, t.type);
  t.weight = c.normal(own(c.flag("own_weight"), {D, taps}), c.weight_type(t.type));
  if (c.flag("bias")) t.bias = c.normal(own(c.flag("own_bias"), {D}), c.weight_type(t.type));
  t.type == at::kDouble ? check_2d<double>(c, t, scan, map) : check_2d<float>(c, t, scan, map);
}

}  // namespace vlmamba::oracle
