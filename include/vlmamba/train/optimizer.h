#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "vlmamba/model/weights.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

/// Is this parameter decayed? Matrices are; biases, norms, A_log, D and the step size's bias of a state space are not,
/// as in Mamba's own training.
bool is_decayed(const std::string& name, const at::Tensor& parameter);

/// AdamW (Loshchilov & Hutter, 2019) by ATen's fused op, in groups of equal learning rate and decay.
class Optimizer {
 public:
  struct Group {
    std::string part;
    double lr, weight_decay;
    std::vector<std::string> names;
    std::vector<at::Tensor> parameters, exp_avg, exp_avg_sq, steps;

    int64_t num_elements() const;
  };

  /// Over the parameters of the children `parts` of `model`. Makes all others, and only them, not require grad.
  Optimizer(torch::nn::Module& model, const std::vector<std::string>& parts, const OptimizerConfig& config);

  const std::vector<Group>& groups() const { return groups_; }

  void zero_grad();
  /// Multiplies all gradients by `factor`.
  void scale_gradients(double factor);
  /// The 2-norm of all gradients together, after which they are clipped to the config's norm. A parameter that the loss
  /// does not reach has gradient 0.
  double clip_gradients();
  /// One step; every group's learning rate is multiplied by `lr_factor`.
  void step(double lr_factor);

  /// The moments, named `exp_avg.PARAMETER` and `exp_avg_sq.PARAMETER`: to be saved, or read back in place.
  NamedTensors state() const;
  /// The number of steps done, which the bias correction needs.
  void set_steps_done(int64_t steps);

 private:
  OptimizerConfig config_;
  std::vector<Group> groups_;
};

}  // namespace vlmamba
