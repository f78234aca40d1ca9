#include <ATen/Context.h>

#include "tests/emulated_cuda/device_under_test.h"
#include "tests/emulated_cuda/engine.h"

namespace vlmamba::test {
namespace {

// New tensors are filled with NaN: what a kernel forgets to write, or reads before it is written, shows.
const bool fill_new_tensors = [] {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(true);
  return true;
}();

}  // namespace

c10::DispatchKey kernel_key() { return c10::DispatchKey::PrivateUse1; }
bool has_device() { return fill_new_tensors; }
at::Tensor to_device(const at::Tensor& tensor) { return tensor; }
std::vector<uint64_t> thread_orders() { return {0, 1, 2, 3}; }
void set_thread_order(uint64_t seed) { emulation::set_thread_order(seed); }
void set_multiprocessors(int count) { emulation::set_multiprocessors(count); }

}  // namespace vlmamba::test
