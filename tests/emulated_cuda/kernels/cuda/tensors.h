#pragma once

// Stands in for kernels/cuda/tensors.h: tensors stay on the CPU, and adapters register under a key that no tensor
// carries, so that only a test that asks for it reaches them.

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "kernels/cuda/device.h"

namespace vlmamba::cuda {

template <class T>
struct DeviceType {
  using type = T;
};

template <class T>
const T* device_data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}
template <class T>
T* mutable_device_data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

class DeviceScope {
 public:
  explicit DeviceScope(const at::Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
};

inline void check(cudaError_t error) { TORCH_CHECK(error == cudaSuccess, "CUDA error: ", static_cast<int>(error)); }

inline int multiprocessors() { return emulation::multiprocessors(); }

}  // namespace vlmamba::cuda

#define VLMAMBA_CUDA_IMPL(m) TORCH_LIBRARY_IMPL(vlmamba, PrivateUse1, m)
