#pragma once

// Runs a CUDA kernel on the CPU: one block at a time, every thread a fibre that runs until its next barrier or warp
// operation. Seeded thread orders expose missing barriers; divergence is an error; dynamic shared memory is allocated
// to the byte and filled with NaN for every block, so that AddressSanitizer and comparisons see misuse of it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>

namespace vlmamba::emulation {

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

/// What a kernel does wrong that hardware would leave undefined: divergence, a foreign lane, a misaligned copy.
class KernelError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// 0: threads and blocks in ascending order; 1: in descending order; 2: each warp as far as it can go before the next
/// begins; else a new random order for every block and step.
void set_thread_order(uint64_t seed);

/// What adapters are told about the device: small, so that small shapes reach every way of splitting work.
void set_multiprocessors(int count);
int multiprocessors();

/// Runs `body` as every thread of every block. False where no device would take the launch. Throws KernelError.
bool run(Index3 grid, Index3 block, size_t dynamic_shared_bytes, const std::function<void()>& body);

struct Position {
  Index3 thread, block, block_size, grid_size;
};
extern const Position* position;  // of the thread that runs

using Location = std::source_location;

void wait_for_block(const Location& where);

/// Publishes `value`, waits for the lanes of `mask`, and gives what lane `source` published.
uint64_t exchange(unsigned mask, uint64_t value, int source, const char* operation, const Location& where);
/// Waits for the lanes of `mask`, and gives the mask of those with `flag`.
unsigned ballot(unsigned mask, bool flag, const char* operation, const Location& where);
/// The lane of a shuffle by `width`, or this lane itself where that lies outside.
int shuffle_source(char kind, int operand, int width);

void* dynamic_shared_memory();
void copy_async_16(void* shared, const void* global);
void commit_copies();
void wait_copies(size_t left);

}  // namespace vlmamba::emulation
