#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>
#include <sys/resource.h>

#include <array>
#include <string_view>
#include <utility>

#include "src/train/device_facts.h"

namespace vlmamba::device_facts {
namespace {

// Dense bfloat16 TFLOPS, from NVIDIA's data sheets. The first name that the device's contains counts.
constexpr std::array<std::pair<std::string_view, double>, 13> kPeaks{{{"B200", 2250},
                                                                      {"B100", 1750},
                                                                      {"GH200", 989},
                                                                      {"H200", 989},
                                                                      {"H100 PCIe", 756},
                                                                      {"H100", 989},
                                                                      {"H800", 989},
                                                                      {"A100", 312},
                                                                      {"A800", 312},
                                                                      {"L40S", 362},
                                                                      {"A40", 150},
                                                                      {"A10", 125},
                                                                      {"RTX 4090", 165}}};

bool has_gpu(int& device) {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 && cudaGetDevice(&device) == cudaSuccess;
}

}  // namespace

double peak_flops() {
  int device = 0;
  cudaDeviceProp properties;
  if (!has_gpu(device) || cudaGetDeviceProperties(&properties, device) != cudaSuccess) return 0;
  for (const auto& [name, tera] : kPeaks)
    if (std::string_view(properties.name).find(name) != std::string_view::npos) return tera * 1e12;
  return 0;
}

int64_t peak_memory() {
  int device = 0;
  if (has_gpu(device) && c10::cuda::CUDACachingAllocator::get()->initialized()) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
    c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
    if (const int64_t peak = stats.allocated_bytes[0].peak; peak > 0) return peak;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

void begin_range(const char* name) { nvtxRangePushA(name); }
void end_range() { nvtxRangePop(); }

}  // namespace vlmamba::device_facts
