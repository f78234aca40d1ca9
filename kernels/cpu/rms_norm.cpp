// The norms on the CPU: tensors to the lane kernels, threads over rows.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "src/ops/rms_norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>
#include <type_traits>

#include "kernels/cpu/norm_lanes.h"
#include "kernels/cpu/work.h"

namespace vlmamba::cpu {
namespace {

using at::Tensor;
using ops::OptionalTensor;
using ops::Wanted;

int64_t rows_of(const Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

template <typename X, typename R>
void run_forward(const NormForward<X, R>& p, int64_t rows) {
  const auto kernel = fastest(baseline::norm_forward<X, R>, avx2::norm_forward<X, R>, avx512::norm_forward<X, R>);
  for_each_part(rows, parts_of(rows, p.channels),
                [&](int64_t, int64_t first, int64_t last) { kernel(p, first, last); });
}

// All tensors contiguous, the weight and the sum in the type of the arithmetic. No residual, no sum: x alone.
void forward(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps, const Tensor& y,
             const Tensor& sum) {
  with_storage(x.scalar_type(), [&](auto storage) {
    using X = decltype(storage);
    const auto run = [&](auto residual_storage) {
      using R = decltype(residual_storage);
      run_forward(NormForward<X, R>{x.size(-1), eps, stored<X>(x), stored<R>(residual), stored<Math<X>>(weight),
                                    mutable_stored<X>(y), mutable_stored<Math<X>>(sum)},
                  rows_of(x));
    };
    if (residual.defined() && residual.scalar_type() != x.scalar_type())
      run(Math<X>{});
    else
      run(X{});
  });
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  ops::check_rms_norm(x, weight);
  const Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  forward(x.contiguous(), {}, ops::in_math_type(weight, ops::math_type(x)), eps, y, {});
  return y;
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  ops::check_add_rms_norm(x, residual, weight);
  const auto type = ops::math_type(x);
  const Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  const Tensor sum = at::empty_like(x, x.options().dtype(type), at::MemoryFormat::Contiguous);
  forward(x.contiguous(), residual.contiguous(), ops::in_math_type(weight, type), eps, y, sum);
  return {y, sum};
}

template <typename X, typename Y>
void run_backward(const NormBackward<X, Y>& p, const Tensor& x, int64_t parts) {
  const auto kernel = fastest(baseline::norm_backward<X, Y>, avx2::norm_backward<X, Y>, avx512::norm_backward<X, Y>);
  for_each_part(rows_of(x), parts, [&](int64_t part, int64_t first, int64_t last) { kernel(p, part, first, last); });
}

Tensor empty(const Tensor& like) { return at::empty({0}, like.options()); }

// The gradients of x, in x's type, and of the weight, in the weight's. dy is of x's type or narrower.
std::tuple<Tensor, Tensor> backward(const Tensor& dy, const Tensor& dsum, const Tensor& x, const Tensor& weight_in,
                                    double eps, const Wanted<2>& wanted) {
  const Tensor weight = ops::in_math_type(weight_in, ops::math_type(x));
  const Tensor dx = at::empty_like(x, at::MemoryFormat::Contiguous);
  const int64_t parts = parts_of(rows_of(x), x.size(-1));
  const Tensor dweight = wanted[1] ? at::zeros({parts, x.size(-1)}, weight.options()) : Tensor();
  with_storage(x.scalar_type(), [&](auto storage) {
    using X = decltype(storage);
    const auto run = [&](auto dy_storage) {
      using Y = decltype(dy_storage);
      run_backward(NormBackward<X, Y>{x.size(-1), eps, stored<Y>(dy), stored<Math<X>>(dsum), stored<X>(x),
                                      stored<Math<X>>(weight), mutable_stored<X>(dx), mutable_stored<Math<X>>(dweight)},
                   x, parts);
    };
    if constexpr (std::is_same_v<X, float>)
      with_storage(dy.scalar_type(), [&](auto dy_storage) {
        if constexpr (!std::is_same_v<decltype(dy_storage), double>) run(dy_storage);
      });
    else
      run(X{});
  });
  return {wanted[0] ? dx : empty(x), wanted[1] ? sum_of_parts(dweight).to(weight_in.scalar_type()) : empty(x)};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, double eps,
                                             Wanted<2> wanted) {
  ops::check_rms_norm_backward(dy, x, weight);
  return backward(dy.contiguous(), {}, x.contiguous(), weight, eps, wanted);
}

std::tuple<Tensor, Tensor> add_rms_norm_backward(const OptionalTensor& dy, const OptionalTensor& dresidual_out,
                                                 const Tensor& residual_out, const Tensor& weight, double eps,
                                                 Wanted<2> wanted) {
  ops::check_add_rms_norm_backward(dy, dresidual_out, residual_out, weight);
  if (!dy) {
    const Tensor dsum = at::empty_like(residual_out, at::MemoryFormat::Contiguous);
    if (dresidual_out)
      dsum.copy_(*dresidual_out);
    else
      dsum.zero_();
    return {wanted[0] ? dsum : empty(dsum), wanted[1] ? at::zeros(weight.sizes(), weight.options()) : empty(dsum)};
  }
  return backward(dy->contiguous(), dresidual_out ? dresidual_out->contiguous() : Tensor(), residual_out.contiguous(),
                  weight, eps, wanted);
}

}  // namespace

TORCH_LIBRARY_IMPL(vlmamba, CPU, m) {
  m.impl("rms_norm", rms_norm);
  m.impl("add_rms_norm", add_rms_norm);
  m.impl("rms_norm_backward", rms_norm_backward);
  m.impl("add_rms_norm_backward", add_rms_norm_backward);
}

}  // namespace vlmamba::cpu
