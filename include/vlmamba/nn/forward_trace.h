#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace vlmamba::nn {

/// What the ops of a module put out, watched through LibTorch's own hook for every op, so that modules need no code for
/// it. An op belongs to the module whose parameters it takes; one without parameters to that of its inputs, or to the
/// nearest module around them all. Ops inside of ops are not counted apart.
class ForwardTrace {
 public:
  /// All outputs of one module, in the order of the first one.
  struct Row {
    std::string module;  ///< path below the watched one; empty: itself
    double max_abs = 0;  ///< of the finite values
    int64_t non_finite = 0, values = 0;
  };
  /// The first output with NaN or infinity. Minus infinity that masked_fill put there by design does not count.
  struct NonFinite {
    std::string module, op;
    int64_t non_finite, values;
  };

  /// Watches the ops that this thread runs, while it lives.
  explicit ForwardTrace(const torch::nn::Module& module);
  ~ForwardTrace();
  ForwardTrace(const ForwardTrace&) = delete;
  ForwardTrace& operator=(const ForwardTrace&) = delete;

  const std::vector<Row>& rows() const;
  const std::optional<NonFinite>& first_non_finite() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vlmamba::nn
