# The CUDA kernels (device code and raw-pointer launchers) and their adapters to tensors. Read by kernels/ and by
# tests/emulated_cuda/, which compiles the same files for the CPU.
set(VLMAMBA_CUDA_OPS)

set(VLMAMBA_CUDA_KERNELS ${VLMAMBA_CUDA_OPS})
list(TRANSFORM VLMAMBA_CUDA_KERNELS PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
set(VLMAMBA_CUDA_ADAPTERS ${VLMAMBA_CUDA_KERNELS})
list(TRANSFORM VLMAMBA_CUDA_KERNELS APPEND ".cu")
list(TRANSFORM VLMAMBA_CUDA_ADAPTERS APPEND ".cpp")
