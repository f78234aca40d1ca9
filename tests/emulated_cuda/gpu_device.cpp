#include <ATen/Context.h>

#include "tests/emulated_cuda/device_under_test.h"

namespace vlmamba::test {

c10::DispatchKey kernel_key() { return c10::DispatchKey::CUDA; }
bool has_device() { return at::globalContext().hasCUDA(); }

// Strides and the distance from an aligned address are those of the tensor: kernels must take any.
at::Tensor to_device(const at::Tensor& tensor) {
  if (tensor.is_cuda()) return tensor;
  if (!tensor.is_non_overlapping_and_dense()) return tensor.to(at::kCUDA);
  const at::Tensor storage = at::empty({tensor.storage_offset() + tensor.numel()}, tensor.options().device(at::kCUDA));
  return storage.as_strided(tensor.sizes(), tensor.strides(), tensor.storage_offset()).copy_(tensor);
}

std::vector<uint64_t> thread_orders() { return {0}; }
void set_thread_order(uint64_t) {}
void set_multiprocessors(int) {}

}  // namespace vlmamba::test
