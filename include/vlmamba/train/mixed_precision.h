#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

at::ScalarType scalar_type(Precision precision);

/// The loss of a batch, matrix products and convolutions in `precision`; scans, norms and the loss itself in fp32,
/// whatever their inputs are. The one place of training where autocast is on.
VlMamba::Loss loss_in(Precision precision, const VlMamba& model, const Batch& batch);

/// Is it a matrix that products or convolutions take, or an embedding of ids? A_log, D, biases and norms are none, nor
/// what is added to the fp32 stream, position embeddings.
bool can_be_halved(const std::string& name, const at::Tensor& parameter);

/// While one lives, the matrices of a model that do not require grad lie in `precision`, where they can: half the
/// memory of what never changes. Since products round their weights anyway, only the embedding loses by it. Their full
/// values, where rounding loses anything, wait in the CPU's memory and come back at the end.
class FrozenWeights {
 public:
  FrozenWeights(torch::nn::Module& model, Precision precision);
  ~FrozenWeights();
  FrozenWeights(const FrozenWeights&) = delete;
  FrozenWeights& operator=(const FrozenWeights&) = delete;

  /// While one lives, the model holds the full values, to be saved.
  class Unrounded {
   public:
    explicit Unrounded(FrozenWeights& frozen);
    ~Unrounded();
    Unrounded(const Unrounded&) = delete;
    Unrounded& operator=(const Unrounded&) = delete;

   private:
    FrozenWeights& frozen_;
  };

 private:
  struct Weight {
    at::Tensor parameter, rounded;
    at::Tensor full;  // undefined: `rounded` has the same values
    at::TensorOptions options;
  };
  std::vector<Weight> weights_;
};

}  // namespace vlmamba
