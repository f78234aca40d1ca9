#include <algorithm>

#include "tests/ops/oracle_grid/scan_cases.h"

namespace vlmamba::oracle {
namespace {

// delta, its bias and A: what their product does to the state decides where scans go wrong. Without softplus the bias
// keeps delta's sign, so that what shall decay does not grow beyond fp32.
void draw_decay(Case& c, ScanTensors& t, at::IntArrayRef delta, at::IntArrayRef A, at::IntArrayRef bias) {
  using Text = std::string;
  const auto regime =
      c.pick<Text>("regime", {"plain", "plain", "fresh", "extreme", "fast", "huge", "still", "growing"});
  t.delta_softplus = regime == "plain" || regime == "fresh" || regime == "extreme";
  if (regime == "plain") {
    t.delta = c.normal(delta, t.type);
    t.A = c.even(A, t.weights, -4, -0.05);
  } else if (regime == "fresh") {  // as initialised: steps of 0.001 to 0.1
    t.delta = c.normal(delta, t.type, 1.5, -5);
    t.A = c.even(A, t.weights, -16, -1);
  } else if (regime == "extreme") {  // far on both sides of softplus
    t.delta = c.even(delta, t.type, -60, 60);
    t.A = c.even(A, t.weights, -1, -0.01);
  } else if (regime == "fast") {  // |delta A| up to 16: the state before hardly matters, its gradient does
    t.delta = c.even(delta, t.type, 0, 1);
    t.A = c.even(A, t.weights, -16, -8);
  } else if (regime == "huge") {  // decays to exactly zero
    t.delta = c.even(delta, t.type, 0, 100);
    t.A = c.even(A, t.weights, -20, 0);
  } else if (regime == "still") {  // never decays
    t.delta = c.even(delta, t.type, 0, 0);
    t.A = c.even(A, t.weights, -4, 0);
  } else {  // some states grow, and steps go backwards
    t.delta = c.normal(delta, t.type, 0.3);
    t.A = c.normal(A, t.weights, 0.4);
  }
  if (!c.flag("bias")) return;
  const auto type = c.weight_type(t.type);
  const double most = regime == "growing" ? 0.02 : regime == "still" ? 0 : 0.3;
  t.delta_bias = t.delta_softplus ? c.normal(bias, type, 0.5) : c.even(bias, type, 0, most);
}

int64_t draw_groups(Case& c, int64_t channels) {
  std::vector<int64_t> divisors{1, 1};
  for (int64_t g = 2; g <= channels; ++g)
    if (channels % g == 0) divisors.push_back(g);
  return divisors[static_cast<size_t>(c.integer(0, static_cast<int64_t>(divisors.size()) - 1))];
}

}  // namespace

ScanSizes draw_sizes(Case& c, int64_t directions, int64_t length) {
  ScanSizes s;
  s.directions = directions;
  s.length = length;
  std::vector<int64_t> states{1, 2, 3, 5, 7, 8, 15, 16, 16, 16, 17, 32, 33, 64, 128};
  if (length * directions * 300 <= c.setting.budget) states.insert(states.end(), {256, 300});
  s.states = c.pick("N", states);
  std::vector<int64_t> channels{1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 96, 100, 128, 130, 200};
  const int64_t most = c.setting.budget / std::max<int64_t>(1, length * s.states * directions);
  channels.erase(std::remove_if(channels.begin() + 1, channels.end(), [&](int64_t d) { return d > most; }),
                 channels.end());
  s.channels = c.pick("D", channels);
  s.rows = c.pick<int64_t>("B", {0, 1, 1, 1, 1, 2, 2, 3, 5});
  s.rows = std::min(s.rows, std::max<int64_t>(1, most / s.channels));
  s.groups = draw_groups(c, s.channels);
  c.note("rows", s.rows);
  c.note("L", s.length);
  c.note("G", s.groups);
  return s;
}

ScanTensors draw_scan(Case& c, const ScanSizes& s, bool map, bool own_u) {
  ScanTensors t;
  t.type = c.input_type();
  t.weights = c.weight_type(t.type);
  t.math = t.type == at::kDouble ? at::kDouble : at::kFloat;
  const auto shape = [&](std::vector<int64_t> front, bool directed, std::vector<int64_t> back) {
    if (directed) front.push_back(s.directions);
    front.insert(front.end(), back.begin(), back.end());
    return front;
  };
  const auto [B, L, D, N, G, K] = std::tuple(s.rows, s.length, s.channels, s.states, s.groups, s.directions);
  t.u = c.normal(shape({B, L}, map && own_u, {D}), t.type);
  draw_decay(c, t, shape({B, L}, map, {D}), shape({}, map, {D, N}), shape({}, map, {D}));
  t.B = c.normal(shape({B, L}, map, {G, N}), t.type);
  t.C = c.normal(shape({B, L}, map, {G, N}), t.type);
  if (c.flag("D")) t.D = c.normal(shape({}, map, {D}), c.weight_type(t.type));
  if (map) return t;
  if (c.flag("z")) t.z = c.normal({B, L, D}, t.type, c.chance(0.2) ? 30 : 1);
  if (c.flag("initial")) t.initial_state = c.normal({B, D, N}, t.math);
  t.seq_idx = c.sequences(B, L);
  return t;
}

std::vector<bool> want_gradients(Case& c, const std::vector<OptionalTensor*>& inputs) {
  std::vector<bool> wanted;
  const bool all = c.chance(0.6);
  for (OptionalTensor* input : inputs) {
    const bool want = *input && (all || wanted.empty() || c.chance(0.5));
    wanted.push_back(want);
    if (want && !c.setting.emulated) *input = (*input)->detach().requires_grad_();
  }
  return wanted;
}

}  // namespace vlmamba::oracle
