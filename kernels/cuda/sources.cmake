# The CUDA kernels (device code and raw-pointer launchers) and their adapters to tensors. Read by kernels/ and by
# tests/emulated_cuda/, which compiles the same files for the CPU.
set(VLMAMBA_CUDA_KERNELS
  causal_conv1d.cu
  causal_conv1d_four.cu
  column_sum.cu
  cross_scan.cu
  rms_norm.cu
  selective_scan.cu
  selective_scan_1.cu
  selective_scan_8.cu
  selective_scan_16.cu
  selective_scan_32.cu
  selective_scan_64.cu
  selective_scan_256.cu
  selective_state_update.cu)
set(VLMAMBA_CUDA_ADAPTERS
  causal_conv1d.cpp
  column_sum.cpp
  cross_scan.cpp
  rms_norm.cpp
  selective_scan.cpp
  selective_scan_backward.cpp
  updates.cpp)
list(TRANSFORM VLMAMBA_CUDA_KERNELS PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
list(TRANSFORM VLMAMBA_CUDA_ADAPTERS PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
