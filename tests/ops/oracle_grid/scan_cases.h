#pragma once

#include "tests/ops/oracle_grid/case.h"

namespace vlmamba::oracle {

/// Sizes of a scan, held within the budget of the case.
struct ScanSizes {
  int64_t rows, length, channels, states, groups, directions;
};
ScanSizes draw_sizes(Case& c, int64_t directions, int64_t length);

/// The tensors of a scan in one of the regimes of delta and A that have broken scans before.
struct ScanTensors {
  at::ScalarType type, weights, math;
  OptionalTensor u, delta, A, B, C, D, z, delta_bias, initial_state, seq_idx;
  bool delta_softplus = false;

  std::vector<OptionalTensor*> differentiable() {
    return {&u, &delta, &A, &B, &C, &D, &z, &delta_bias, &initial_state};
  }
  template <typename M>
  ScanInputs<M> exact() const {
    return {numbers<M>(u), numbers<M>(delta),      numbers<M>(A),
            numbers<M>(B), numbers<M>(C),          numbers<M>(D),
            numbers<M>(z), numbers<M>(delta_bias), numbers<M>(initial_state),
            ids(seq_idx),  delta_softplus};
  }
};
ScanTensors draw_scan(Case& c, const ScanSizes& sizes, bool map, bool own_u);

/// Marks a random, non-empty choice of the given tensors as wanting gradients.
std::vector<bool> want_gradients(Case& c, const std::vector<OptionalTensor*>& inputs);

inline constexpr const char* kScanNames[] = {"du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dinitial"};

template <typename M>
std::vector<const Numbers<M>*> in_order(const ScanInputs<M>& g) {
  return {&g.u, &g.delta, &g.A, &g.B, &g.C, &g.D, &g.z, &g.delta_bias, &g.initial_state};
}

/// Those of `got` that were wanted, against the oracle's.
template <typename M>
void compare_gradients(Case& c, const ScanTensors& t, const std::vector<OptionalTensor*>& inputs,
                       const std::vector<bool>& wanted, const std::vector<at::Tensor>& got,
                       const ScanInputs<M>& exact) {
  (void)t;
  const auto expected = in_order(exact);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (wanted[i]) c.compare(kScanNames[i], got[i], *expected[i], (*inputs[i])->scalar_type());
}

}  // namespace vlmamba::oracle
