// Random scans over maps, and the explicit scan orders.

#include "tests/ops/oracle_grid/scan_cases.h"

namespace vlmamba::oracle {
namespace {

using at::Tensor;
using Forward = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                       const OptionalTensor&, bool, c10::string_view, c10::SymInt, c10::SymInt, bool);
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
    const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
    const OptionalTensor&, bool, c10::string_view, c10::SymInt, c10::SymInt, bool, std::array<bool, 7>);
using Cross = Tensor(const Tensor&, c10::string_view, c10::SymInt, c10::SymInt);

struct DrawnMap {
  std::string scan;
  Map map;
};

DrawnMap draw_map(Case& c) {
  DrawnMap drawn;
  drawn.scan = c.pick<std::string>("scan", {"forward", "bidirectional", "cross", "cross"});
  drawn.map.directions = directions(drawn.scan);
  drawn.map.height = c.pick<int64_t>("H", {1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 16});
  drawn.map.width = c.pick<int64_t>("W", {1, 1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 17});
  return drawn;
}

std::vector<Tensor> backward(const Case& c, const ScanTensors& t, const DrawnMap& drawn, bool merge, const Tensor& dy,
                             std::vector<bool> wanted = {}) {
  if (!wanted.empty()) wanted.erase(wanted.begin() + 6);  // no z
  const auto [du, ddelta, dA, dB, dC, dD, dbias] =
      c.call<Backward>("vlmamba::selective_scan_2d_backward", dy, *t.u, *t.delta, *t.A, *t.B, *t.C, t.D, t.delta_bias,
                       t.delta_softplus, drawn.scan, drawn.map.height, drawn.map.width, merge, mask_of<7>(wanted));
  return {du, ddelta, dA, dB, dC, dD, Tensor(), dbias, Tensor()};
}

template <typename M>
void check(Case& c, ScanTensors& t, const DrawnMap& drawn, bool merge) {
  const auto inputs = t.differentiable();
  const auto wanted = want_gradients(c, inputs);
  const auto forward = [&](const ScanTensors& own) {
    return c.call<Forward>("vlmamba::selective_scan_2d", *own.u, *own.delta, *own.A, *own.B, *own.C, own.D,
                           own.delta_bias, own.delta_softplus, drawn.scan, drawn.map.height, drawn.map.width, merge);
  };
  const Tensor y = forward(t);
  const auto exact = t.exact<M>();
  c.compare("y", y, selective_scan_2d(exact, drawn.map, merge), t.type);
  Differentiated d;
  if (c.setting.emulated) {
    d.cotangents = {c.normal(y.sizes(), t.type)};
    d.gradients = backward(c, t, drawn, merge, d.cotangents[0], wanted);
  } else {
    d = differentiate(c, {y}, inputs, wanted);
  }
  const auto expected = selective_scan_2d_backward(exact, drawn.map, merge, numbers<M>(d.cotangents[0]));
  compare_gradients(c, t, inputs, wanted, d.gradients, expected);

  const Computation all{{{"y", true, true},
                         {"du", true, true},
                         {"ddelta", true, true},
                         {"dA", false, false},
                         {"dB", true, false},
                         {"dC", true, false}},
                        {{t.u}, {t.delta}, {d.cotangents[0]}, {t.B, false}, {t.C, false}},
                        [&](const std::vector<OptionalTensor>& inputs) -> Tensors {
                          ScanTensors own = t;
                          own.u = inputs[0], own.delta = inputs[1], own.B = inputs[3], own.C = inputs[4];
                          const c10::NoGradGuard no_grad;
                          const Tensor again = forward(own);
                          const auto g = backward(c, own, drawn, merge, *inputs[2]);
                          return {again, g[0], g[1], g[2], g[3], g[4]};
                        }};
  Tensors first{y};
  for (size_t i = 0; i < 5; ++i) first.push_back(wanted[i] ? d.gradients[i] : Tensor());
  c.expect_repeatable(all, first);
}

template <typename M>
void check_cross(Case& c, const DrawnMap& drawn, at::ScalarType type) {
  const auto& map = drawn.map;
  const int64_t K = static_cast<int64_t>(map.directions.size()), L = map.height * map.width;
  const int64_t rows = c.pick<int64_t>("B", {0, 1, 2, 3}), D = c.pick<int64_t>("D", {1, 3, 16, 33, 70});
  OptionalTensor x = c.normal({rows, L, D}, type), sequences = c.normal({rows, K, L, D}, type);
  const auto wanted = want_gradients(c, {&x, &sequences});
  const Tensor scanned = c.call<Cross>("vlmamba::cross_scan", *x, drawn.scan, map.height, map.width);
  const Tensor merged = c.call<Cross>("vlmamba::cross_merge", *sequences, drawn.scan, map.height, map.width);
  c.compare("scan", scanned, cross_scan(numbers<M>(x), map), type);
  c.compare("merge", merged, cross_merge(numbers<M>(sequences), map), type);
  c.expect_repeatable({{{"scan", true, true}, {"merge", true, true}},
                       {{x}, {sequences}},
                       [&](const std::vector<OptionalTensor>& inputs) -> Tensors {
                         const c10::NoGradGuard no_grad;
                         return {c.call<Cross>("vlmamba::cross_scan", *inputs[0], drawn.scan, map.height, map.width),
                                 c.call<Cross>("vlmamba::cross_merge", *inputs[1], drawn.scan, map.height, map.width)};
                       }},
                      {scanned, merged});
  if (c.setting.emulated) return;  // the gradients are each other's forward
  if (wanted[0]) {
    const auto d = differentiate(c, {scanned}, {&x}, {true});
    c.compare("scan dx", d.gradients[0], cross_merge(numbers<M>(d.cotangents[0]), map), type);
  }
  if (wanted[1]) {
    const auto d = differentiate(c, {merged}, {&sequences}, {true});
    c.compare("merge dx", d.gradients[0], cross_scan(numbers<M>(d.cotangents[0]), map), type);
  }
}

}  // namespace

void selective_scan_2d_case(Case& c) {
  const auto drawn = draw_map(c);
  const auto K = static_cast<int64_t>(drawn.map.directions.size());
  const bool own_u = c.flag("own_u"), merge = c.flag("merge");
  auto t = draw_scan(c, draw_sizes(c, K, drawn.map.height * drawn.map.width), /*map=*/true, own_u);
  t.type == at::kDouble ? check<double>(c, t, drawn, merge) : check<float>(c, t, drawn, merge);
}

void cross_case(Case& c) {
  const auto drawn = draw_map(c);
  const auto type = c.input_type();
  type == at::kDouble ? check_cross<double>(c, drawn, type) : check_cross<float>(c, drawn, type);
}

}  // namespace vlmamba::oracle
