#pragma once

// All that kernels need from CUDA, and nothing of LibTorch. tests/emulated_cuda/kernels/cuda/device.h replaces this
// file by include path and runs the same sources on the CPU: what is used in a .cu must be in both. Assembly, launches
// and vendor headers appear here alone.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace vlmamba::cuda {

/// The type of the arithmetic: double for double, else float.
template <class T>
using MathType = std::conditional_t<std::is_same_v<T, double>, double, float>;

#ifdef __CUDACC__

/// Queues a kernel on `stream`; raises its limit of dynamic shared memory where it needs more than 48 KiB.
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t dynamic_shared_bytes, cudaStream_t stream,
                   A&&... arguments) {
  constexpr size_t kAlwaysAllowed = 48 << 10;
  if (dynamic_shared_bytes > kAlwaysAllowed) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(dynamic_shared_bytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, block, dynamic_shared_bytes, stream>>>(std::forward<A>(arguments)...);
  return cudaGetLastError();
}

/// The block's dynamic shared memory, aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

__device__ __forceinline__ float to_math(float x) { return x; }
__device__ __forceinline__ double to_math(double x) { return x; }
__device__ __forceinline__ float to_math(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_math(__nv_bfloat16 x) { return __bfloat162float(x); }

/// Rounds to T, to the nearest.
template <class T>
__device__ __forceinline__ T from_math(MathType<T> x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// The unit for special functions: about two units in the last place, results below 2^-126 are zero. Doubles get the
// exact functions.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ double exp2_approx(double x) { return exp2(x); }
__device__ __forceinline__ double log2_approx(double x) { return log2(x); }
__device__ __forceinline__ double reciprocal_approx(double x) { return 1 / x; }

// Copies of 16 bytes from global to shared memory that pass by the registers. Both addresses are multiples of 16. A
// thread sees its own copies after wait_copies, the block after a barrier behind that.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))),
      "l"(global)
      : "memory");
}
/// Makes one group of the copies since the last commit.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most the kLeft youngest groups are under way.
template <int kLeft>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

#endif  // __CUDACC__

}  // namespace vlmamba::cuda
