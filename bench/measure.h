#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace vlmamba::bench {

/// Milliseconds of one pass over several repetitions.
struct Times {
  double median = 0, least = 0, most = 0;
  int64_t count = 0;
};

/// Times the passes in turn (A B A B ...), so that what disturbs the machine disturbs all. Warms each up once, then
/// repeats for about `seconds` a pass, 5 times at least (fewer where one takes longer than all that). CUDA passes are
/// timed by events.
std::vector<Times> measure(const std::vector<std::function<void()>>& passes, at::Device device, double seconds);

/// The most memory that `work` holds at once beyond what was held before it, in bytes; negative where it cannot be
/// known. On the CPU by the system's count for this process, else by the caching allocator's.
double peak_bytes(const std::function<void()>& work, at::Device device);

/// Bytes that can be allocated on the device now.
double available_bytes(at::Device device);

/// Makes the CPU kernels use `baseline`, `avx2` or `avx512`; empty: the best that this processor has. Throws Error
/// (kUsage) where it does not have them.
void use_instructions(const std::string& name);
/// Those in use.
std::string instructions();

/// What the device can do at most. 0 where unknown.
struct Limits {
  std::string name;
  double bytes_per_second = 0;  ///< measured: a copy of a large tensor, bytes read and written
  double exps_per_second = 0;   ///< of the special-function units, at the boost clock
};
Limits limits_of(at::Device device);

}  // namespace vlmamba::bench
