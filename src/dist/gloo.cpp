// LibTorch's ProcessGroupGloo. Its header includes five of Gloo's, which LibTorch does not ship: src/dist/gloo_stubs/
// stands in for them, for this file alone. That holds as long as the layouts used here carry only pointers to Gloo's
// types and no virtual function of Gloo's is called from here; it was checked with this version of LibTorch, so another
// one must be looked at first.
#define USE_C10D_GLOO
#include <torch/headeronly/version.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "src/dist/backends.h"

namespace vlmamba {

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11);

Backend gloo(const c10::intrusive_ptr<c10d::Store>& store, int64_t rank, int64_t size, const std::string& address,
             std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices = {c10d::ProcessGroupGloo::createDeviceForHostname(address)};
  options->threads = 2;
  return c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", store),
                                                     static_cast<int>(rank), static_cast<int>(size), options);
}

}  // namespace vlmamba
