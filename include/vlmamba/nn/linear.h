#pragma once

#include <torch/nn/module.h>

#include <optional>

namespace vlmamba::nn {

/// What LoRA (Hu et al., arXiv 2106.09685) adds to a product: scale * (dropout(x) A^T) B^T, A [rank,in], B [out,rank].
struct LoraShape {
  int64_t rank = 0;
  double scale = 1;    ///< alpha / rank
  double dropout = 0;  ///< share of x that the two small matrices do not see while a draw is set
};

/// y = x W^T + b. weight [out, in], bias [out] or none. Initialised as PyTorch's: U(±1/sqrt(in)).
class Linear : public torch::nn::Module {
 public:
  Linear(int64_t in, int64_t out, bool bias = true);
  at::Tensor forward(const at::Tensor& x) const;
  /// x W^T alone, with LoRA where there is some.
  at::Tensor product(const at::Tensor& x) const;

  /// Adds lora_A, drawn from `seed`: U(±1/sqrt(in)), and lora_B: zeros, so that nothing changes yet.
  void add_lora(const LoraShape& shape, uint64_t seed);
  /// Adds LoRA's product into the weight and removes it; nothing where there is none. Rounded once, from fp32.
  void merge_lora();
  bool has_lora() const { return lora_A.defined(); }
  /// What the next dropouts are drawn from, a pure function of it; none: no dropout. A repeated forward pass repeats
  /// them.
  void set_draw(std::optional<uint64_t> draw) { draw_ = draw; }

  at::Tensor weight, bias, lora_A, lora_B;

 private:
  at::Tensor with_lora(const at::Tensor& y, const at::Tensor& x) const;
  at::Tensor dropped(const at::Tensor& x) const;

  LoraShape lora_;
  std::optional<uint64_t> draw_;
};

}  // namespace vlmamba::nn
