// The norms on CUDA: tensors to launchers.

#define TORCH_ASSERT_ONLY_METHOD_OPERATORS
#include "kernels/cuda/rms_norm.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <tuple>
#include <type_traits>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/summed_rows.h"
#include "kernels/cuda/tensors.h"
#include "src/ops/rms_norm.h"

namespace vlmamba::cuda {
namespace {

using at::Tensor;
using ops::OptionalTensor;
using ops::Wanted;

int64_t rows_of(const Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

template <class x_t, class residual_t>
void run_forward(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps, const Tensor& y,
                 const Tensor& sum, cudaStream_t stream) {
  using X = typename DeviceType<x_t>::type;
  using R = typename DeviceType<residual_t>::type;
  const NormForward<X, R> problem{rows_of(x),
                                  x.size(-1),
                                  eps,
                                  device_data<x_t>(x),
                                  device_data<residual_t>(residual),
                                  device_data<MathType<X>>(weight),
                                  mutable_device_data<x_t>(y),
                                  mutable_device_data<MathType<X>>(sum)};
  check(norm_forward(problem, stream));
}

// All tensors contiguous. No residual, no sum: x alone.
void forward(const Tensor& x, const Tensor& residual, const Tensor& weight_in, double eps, const Tensor& y,
             const Tensor& sum, cudaStream_t stream) {
  const Tensor weight = ops::in_math_type(weight_in, ops::math_type(x));
  VLMAMBA_DISPATCH_FLOATING(x.scalar_type(), "rms_norm", [&] {
    if (residual.defined() && residual.scalar_type() != x.scalar_type()) {
      if constexpr (!std::is_same_v<scalar_t, double>)
        run_forward<scalar_t, float>(x, residual, weight, eps, y, sum, stream);
    } else {
      run_forward<scalar_t, scalar_t>(x, residual, weight, eps, y, sum, stream);
    }
  });
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  ops::check_rms_norm(x, weight);
  const DeviceScope scope(x);
  const Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  forward(x.contiguous(), {}, weight, eps, y, {}, scope.stream());
  return y;
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  ops::check_add_rms_norm(x, residual, weight);
  const DeviceScope scope(x);
  const Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  const Tensor sum = at::empty_like(x, x.options().dtype(ops::math_type(x)), at::MemoryFormat::Contiguous);
  forward(x.contiguous(), residual.contiguous(), weight, eps, y, sum, scope.stream());
  return {y, sum};
}

template <class x_t, class dy_t>
void run_backward(const Tensor& x, const Tensor& dy, const Tensor& dsum, const Tensor& weight, double eps,
                  const Tensor& dx, const Tensor& dweight, int64_t parts, cudaStream_t stream) {
  using X = typename DeviceType<x_t>::type;
  using Y = typename DeviceType<dy_t>::type;
  const NormBackward<X, Y> problem{rows_of(x),
                                   x.size(-1),
                                   eps,
                                   device_data<x_t>(x),
                                   device_data<dy_t>(dy),
                                   device_data<MathType<X>>(dsum),
                                   device_data<MathType<X>>(weight),
                                   mutable_device_data<x_t>(dx),
                                   mutable_device_data<MathType<X>>(dweight)};
  check(norm_backward(problem, parts, stream));
}

Tensor empty(const Tensor& like) { return at::empty({0}, like.options()); }

// The gradients of x, in x's type, and of the weight, in the weight's. dy is of x's type or narrower.
std::tuple<Tensor, Tensor> backward(const Tensor& dy, const Tensor& dsum, const Tensor& x, const Tensor& weight_in,
                                    double eps, const Wanted<2>& wanted, cudaStream_t stream) {
  const Tensor weight = ops::in_math_type(weight_in, ops::math_type(x));
  const Tensor dx = at::empty_like(x);
  const int64_t parts = norm_parts(rows_of(x), x.size(-1), multiprocessors());
  const Tensor dweight = wanted[1] ? at::empty({parts, x.size(-1)}, weight.options()) : Tensor();
  VLMAMBA_DISPATCH_FLOATING(dy.scalar_type(), "rms_norm_backward", [&] {
    if (x.scalar_type() == dy.scalar_type())
      run_backward<scalar_t, scalar_t>(x, dy, dsum, weight, eps, dx, dweight, parts, stream);
    else if constexpr (!std::is_same_v<scalar_t, double>)
      run_backward<float, scalar_t>(x, dy, dsum, weight, eps, dx, dweight, parts, stream);
  });
  return {wanted[0] ? dx : empty(x),
          wanted[1] ? sum_of_rows(dweight, weight.sizes(), stream).to(weight_in.scalar_type()) : empty(x)};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, double eps,
                                             Wanted<2> wanted) {
  ops::check_rms_norm_backward(dy, x, weight);
  const DeviceScope scope(x);
  return backward(dy.contiguous(), {}, x.contiguous(), weight, eps, wanted, scope.stream());
}

std::tuple<Tensor, Tensor> add_rms_norm_backward(const OptionalTensor& dy, const OptionalTensor& dresidual_out,
                                                 const Tensor& residual_out, const Tensor& weight, double eps,
                                                 Wanted<2> wanted) {
  ops::check_add_rms_norm_backward(dy, dresidual_out, residual_out, weight);
  const DeviceScope scope(residual_out);
  const Tensor dsum = dresidual_out ? dresidual_out->contiguous() : Tensor();
  if (dy) return backward(dy->contiguous(), dsum, residual_out.contiguous(), weight, eps, wanted, scope.stream());
  const Tensor copied = at::empty_like(residual_out, at::MemoryFormat::Contiguous);
  if (dsum.defined())
    copied.copy_(dsum);
  else
    copied.zero_();
  return {wanted[0] ? copied : empty(copied), wanted[1] ? at::zeros(weight.sizes(), weight.options()) : empty(copied)};
}

}  // namespace

VLMAMBA_CUDA_IMPL(m) {
  m.impl("rms_norm", rms_norm);
  m.impl("add_rms_norm", add_rms_norm);
  m.impl("rms_norm_backward", rms_norm_backward);
  m.impl("add_rms_norm_backward", add_rms_norm_backward);
}

}  // namespace vlmamba::cuda
