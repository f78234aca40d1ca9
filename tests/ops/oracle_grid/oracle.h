#pragma once

#include <string_view>

#include "tests/ops/oracle_grid/bounded.h"

/// The ops and their adjoints once more, one number after another, from their formulas alone. No header of the library
/// and no LibTorch: what is wrong there cannot be wrong here in the same way.
///
/// M is the type of the arithmetic that is checked, float or double. Layouts, names and meaning: include/vlmamba/ops.
namespace vlmamba::oracle {

/// Pixel (row * width + column) that direction 0..3 reads at step t.
int64_t pixel(int direction, int64_t t, int64_t height, int64_t width);
/// The directions of `forward`, `bidirectional`, `cross`.
std::vector<int> directions(std::string_view scan);

template <typename M>
struct ScanInputs {
  Numbers<M> u, delta, A, B, C, D, z, delta_bias, initial_state;
  Array<int> seq_idx;
  bool delta_softplus = false;
};
/// Also the gradients with respect to the inputs, in place of them.
template <typename M>
struct ScanOutputs {
  Numbers<M> y, final_state;
};
template <typename M>
ScanOutputs<M> selective_scan(const ScanInputs<M>& in);
/// dy and dfinal: exact numbers, not given for none.
template <typename M>
ScanInputs<M> selective_scan_backward(const ScanInputs<M>& in, const Numbers<M>& dy, const Numbers<M>& dfinal);

/// A map: u [B,L,D] or [B,L,K,D] · delta [B,L,K,D] · A [K,D,N] · B, C [B,L,K,G,N] · D, delta_bias [K,D].
struct Map {
  std::vector<int> directions;
  int64_t height = 0, width = 0;
};
template <typename M>
Numbers<M> selective_scan_2d(const ScanInputs<M>& in, const Map& map, bool merge);
template <typename M>
ScanInputs<M> selective_scan_2d_backward(const ScanInputs<M>& in, const Map& map, bool merge, const Numbers<M>& dy);

template <typename M>
struct ConvInputs {
  Numbers<M> x, weight, bias, initial_state;
  Array<int> seq_idx;
  bool silu = false;
};
template <typename M>
struct ConvOutputs {
  Numbers<M> y, final_state;
};
template <typename M>
ConvOutputs<M> causal_conv1d(const ConvInputs<M>& in);
template <typename M>
ConvInputs<M> causal_conv1d_backward(const ConvInputs<M>& in, const Numbers<M>& dy, const Numbers<M>& dfinal);
/// weight [D,W] or [K,D,W] · bias [D] or [K,D] -> [B,L,K,D].
template <typename M>
Numbers<M> causal_conv1d_2d(const ConvInputs<M>& in, const Map& map);
template <typename M>
ConvInputs<M> causal_conv1d_2d_backward(const ConvInputs<M>& in, const Map& map, const Numbers<M>& dy);

/// x [R,D] · weight [D].
template <typename M>
Numbers<M> rms_norm(const Numbers<M>& x, const Numbers<M>& weight, double eps);
template <typename M>
struct NormGradients {
  Numbers<M> x, weight;
};
template <typename M>
NormGradients<M> rms_norm_backward(const Numbers<M>& x, const Numbers<M>& weight, double eps, const Numbers<M>& dy);

template <typename M>
Numbers<M> cross_scan(const Numbers<M>& x, const Map& map);
template <typename M>
Numbers<M> cross_merge(const Numbers<M>& x, const Map& map);

}  // namespace vlmamba::oracle
