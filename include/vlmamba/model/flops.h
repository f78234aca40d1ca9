#pragma once

#include "vlmamba/model/vl_mamba.h"

namespace vlmamba {

/// Floating-point operations of a forward pass; a multiply-add is two.
struct Flops {
  double products = 0;  ///< matrix products with weights, which the gradient of the weights costs once more
  double rest = 0;      ///< scans, convolutions, attention's products

  Flops operator*(double times) const { return {products * times, rest * times}; }
  Flops operator+(const Flops& other) const { return {products + other.products, rest + other.rest}; }
  double sum() const { return products + rest; }
};

/// What a model's parts cost. A scan counts 9 operations a position, channel and state, as VMamba's counter; norms and
/// activations count nothing.
struct ForwardFlops {
  Flops encoder;      ///< a picture
  Flops connector;    ///< a picture
  Flops block;        ///< a position, in one block of the language model
  double head = 0;    ///< a target
  double blocks = 0;  ///< of the language model
};

/// `length`: positions of a row, which attention's cost grows with. Of a connector of one's own program, the matrices
/// are counted, once a patch.
ForwardFlops forward_flops(const ModelConfig& config, const VlMamba& model, double length);

}  // namespace vlmamba
