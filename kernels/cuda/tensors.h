#pragma once

// LibTorch's side of the adapters: tensors to pointers, device, stream, errors, registration.
// tests/emulated_cuda/kernels/cuda/tensors.h replaces this file by include path.

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

/// The device's name for a host type of the same layout.
template <class T>
struct DeviceType {
  using type = T;
};
template <>
struct DeviceType<at::Half> {
  using type = __half;
};
template <>
struct DeviceType<at::BFloat16> {
  using type = __nv_bfloat16;
};

/// The elements of a tensor of C++ type T; null where it is undefined.
template <class T>
const typename DeviceType<T>::type* device_data(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  return reinterpret_cast<const typename DeviceType<T>::type*>(tensor.const_data_ptr<T>());
}
template <class T>
typename DeviceType<T>::type* mutable_device_data(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  return reinterpret_cast<typename DeviceType<T>::type*>(tensor.mutable_data_ptr<T>());
}

/// Makes a tensor's device the current one, and names the stream that its user works on.
class DeviceScope {
 public:
  explicit DeviceScope(const at::Tensor& tensor)
      : guard_(tensor.device()), stream_(c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream()) {}
  cudaStream_t stream() const { return stream_; }

 private:
  c10::cuda::CUDAGuard guard_;
  cudaStream_t stream_;
};

/// Throws c10::Error with CUDA's message.
inline void check(cudaError_t error) { C10_CUDA_CHECK(error); }

/// Multiprocessors of the current device: how far a launch should split its work.
inline int multiprocessors() {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, c10::cuda::current_device()));
  return count;
}

}  // namespace vlmamba::cuda

/// VLMAMBA_CUDA_IMPL(m) { m.impl("op", function); }
#define VLMAMBA_CUDA_IMPL(m) TORCH_LIBRARY_IMPL(vlmamba, CUDA, m)
