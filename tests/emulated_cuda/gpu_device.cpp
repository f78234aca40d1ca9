#include <ATen/Context.h>

#include "tests/emulated_cuda/device_under_test.h"

namespace vlmamba::test {

c10::DispatchKey kernel_key() { return c10::DispatchKey::CUDA; }
bool has_device() { return at::globalContext().hasCUDA(); }
at::Tensor to_device(const at::Tensor& tensor) { return tensor.to(at::kCUDA); }
std::vector<uint64_t> thread_orders() { return {0}; }
void set_thread_order(uint64_t) {}
void set_multiprocessors(int) {}

}  // namespace vlmamba::test
