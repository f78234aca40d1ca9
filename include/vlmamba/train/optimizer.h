#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "vlmamba/dist/gradient_buckets.h"
#include "vlmamba/io/weights/weight_files.h"
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
    std::vector<at::Tensor> parameters, exp_avg, exp_avg_sq,
        steps;                     ///< where sharded, the moments of this rank's shares
    std::vector<size_t> places{};  ///< of the parameters among those of the gradient buckets

    int64_t num_elements() const;
  };

  /// Over the parameters of the children of `model` that require grad.
  Optimizer(const torch::nn::Module& model, const OptimizerConfig& config);

  /// From here on the gradients are summed over the ranks of `comm`, which must outlive this, in buckets of about this
  /// size. Where the config says so, each rank keeps the moments of a share of the parameters, and steps that alone.
  void distribute(const torch::nn::Module& model, Comm& comm, int64_t bucket_bytes);

  const std::vector<Group>& groups() const { return groups_; }

  void zero_grad();
  /// The next backward is the step's last: gradients may leave for the other ranks while it runs.
  void sum_in_next_backward();
  /// Returns when the gradients are the sums over all ranks.
  void finish_gradients();
  /// Multiplies all gradients by `factor`.
  void scale_gradients(double factor);
  /// The 2-norm of all gradients together, after which they are clipped to the config's norm. A parameter that the loss
  /// does not reach has gradient 0.
  double clip_gradients();
  /// One step; every group's learning rate is multiplied by `lr_factor`.
  void step(double lr_factor);

  /// The moments, named `exp_avg.PARAMETER` and `exp_avg_sq.PARAMETER`, whole and alike for any number of ranks. Where
  /// they are sharded, rank 0 has what collect_state() brought it, and the others have none.
  NamedTensors state() const;
  /// Where sharded: brings all moments to rank 0, until the next step. Every rank calls it.
  void collect_state();
  /// Reads what state() gave, saved by any number of ranks. Throws Error (weights).
  void load_state(const io::WeightFiles& files);
  /// The number of steps done, which the bias correction needs.
  void set_steps_done(int64_t steps);

 private:
  bool is_sharded() const { return buckets_ && buckets_->is_scattered(); }
  at::Tensor share(const Group& group, size_t parameter, const at::Tensor& whole) const;
  template <typename Visit>
  void for_each_moment(const Visit& visit) const;
  NamedTensors moments() const;

  OptimizerConfig config_;
  std::vector<Group> groups_;
  Comm* comm_ = nullptr;
  std::unique_ptr<GradientBuckets> buckets_;
  NamedTensors collected_;
};

}  // namespace vlmamba
