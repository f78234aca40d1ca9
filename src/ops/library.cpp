// The namespace of all ops. Each op adds its schema in a fragment of its own file.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>
#include <torch/library.h>

#include <cstdio>
#include <cstdlib>

namespace {

// LibTorch's C++ interface changes from release to release: beside another one this library would crash, or compute
// nonsense, at some later call.
struct SameLibTorch {
  SameLibTorch() {
    const auto loaded = aoti_torch_abi_version();  // major, minor, patch in the three highest bytes
    if (loaded >> 40 == static_cast<uint64_t>(TORCH_ABI_VERSION) >> 40) return;
    std::fprintf(stderr, "vlmamba_ops was built with LibTorch %s and cannot be loaded beside LibTorch %d.%d.%d\n",
                 TORCH_VERSION, static_cast<int>(loaded >> 56), static_cast<int>(loaded >> 48 & 255),
                 static_cast<int>(loaded >> 40 & 255));
    std::exit(4);
  }
} same_libtorch;

}  // namespace

TORCH_LIBRARY(vlmamba, library) { (void)library; }
