#pragma once

#include <cstdint>

// What the machine tells about a step, and its own profilers are told. A build without CUDA has the CPU's answers.
namespace vlmamba::device_facts {

/// The most floating-point operations a second in dense bfloat16 of the GPU in use, by its data sheet; 0: not known.
double peak_flops();

/// The most bytes in use since the last call: of tensors on the GPU in use, else of the whole process since it began.
int64_t peak_memory();

/// A range of NVTX, for Nsight Systems.
void begin_range(const char* name);
void end_range();

}  // namespace vlmamba::device_facts
