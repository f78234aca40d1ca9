#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace vlmamba::nn {

/// A piece of a forward pass: tensors to tensors. What else it reads must not change before the backward pass.
using Segment = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

/// segment(inputs), of which only the inputs are kept: the backward pass computes the rest again, in the same autocast
/// type (Chen et al., arXiv 1604.06174). Results and gradients are the same, bit for bit, as without: what a segment
/// draws at random must follow from counters, not from a generator.
///
/// `parameters`: those that the segment reads; their gradients come as those of any other input. Where nothing requires
/// grad, it is a plain call. Once differentiable.
std::vector<at::Tensor> recompute(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters,
                                  Segment segment);

/// Is it block `index`'s turn, where every `every`-th block is computed again? 0: none, 1: all.
constexpr bool recomputes(int64_t every, size_t index) {
  return every > 0 && (static_cast<int64_t>(index) + 1) % every == 0;
}

}  // namespace vlmamba::nn
