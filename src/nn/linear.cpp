#include "vlmamba/nn/linear.h"

#include <ATen/ATen.h>

#include <cmath>

#include "vlmamba/nn/parameters.h"

namespace vlmamba::nn {
namespace {

at::Generator generator(at::Device device, uint64_t seed) {
  at::Generator own = at::globalContext().defaultGenerator(device).clone();
  own.set_current_seed(seed);
  return own;
}

}  // namespace

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  weight = register_parameter("weight", uniform_values({out, in}, bound));
  if (with_bias) bias = register_parameter("bias", uniform_values({out}, bound));
}

at::Tensor Linear::forward(const at::Tensor& x) const { return with_lora(at::linear(x, weight, bias), x); }

at::Tensor Linear::product(const at::Tensor& x) const { return with_lora(at::linear(x, weight), x); }

at::Tensor Linear::with_lora(const at::Tensor& y, const at::Tensor& x) const {
  return has_lora() ? y + at::linear(at::linear(dropped(x), lora_A), lora_B) * lora_.scale : y;
}

at::Tensor Linear::dropped(const at::Tensor& x) const {
  if (!draw_ || lora_.dropout == 0) return x;
  const double kept = 1 - lora_.dropout;
  return x * at::empty(x.sizes(), x.options().requires_grad(false)).bernoulli_(kept, generator(x.device(), *draw_)) /
         kept;
}

void Linear::add_lora(const LoraShape& shape, uint64_t seed) {
  lora_ = shape;
  const auto options = weight.options().dtype(at::promote_types(weight.scalar_type(), at::kFloat)).requires_grad(false);
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight.size(1)));
  const bool on_meta = weight.is_meta();
  at::Tensor a = at::empty({shape.rank, weight.size(1)}, on_meta ? options : options.device(at::kCPU));
  if (!on_meta) a.uniform_(-bound, bound, generator(at::kCPU, seed));  // there, so that every device gets the same
  lora_A = register_parameter("lora_A", a.to(weight.device()));
  lora_B = register_parameter("lora_B", at::zeros({weight.size(0), shape.rank}, options));
}

void Linear::merge_lora() {
  if (!has_lora()) return;
  const c10::AutoGradMode no_grad(false);
  weight.copy_(weight.to(lora_A.scalar_type()) + lora_B.matmul(lora_A) * lora_.scale);
  for (const char* name : {"lora_A", "lora_B"}) parameters_.erase(name);
  lora_A.reset();
  lora_B.reset();
}

}  // namespace vlmamba::nn
