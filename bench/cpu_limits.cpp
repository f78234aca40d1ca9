// What the processor can do at most.

#include <ATen/Parallel.h>

#include <array>
#include <fstream>

#include "bench/limits.h"
#include "kernels/cpu/work.h"
#include "vlmamba/core/error.h"

namespace vlmamba::bench {
namespace {

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

using cpu::InstructionSet;
constexpr std::array<std::pair<const char*, InstructionSet>, 3> kInstructions{
    {{"baseline", InstructionSet::kBaseline}, {"avx2", InstructionSet::kAvx2}, {"avx512", InstructionSet::kAvx512}}};

}  // namespace

void use_instructions(const std::string& name) {
  if (name.empty()) return;
  for (const auto& [known, set] : kInstructions) {
    if (name != known) continue;
    if (!cpu::has_instruction_set(set))
      throw Error(ExitCode::kUsage, "--instructions", "expected some that this processor has, got " + name);
    return cpu::use_instruction_set(set);
  }
  throw Error(ExitCode::kUsage, "--instructions", "expected baseline, avx2 or avx512, got " + name);
}

std::string instructions() {
  for (const auto& [name, set] : kInstructions)
    if (set == cpu::instruction_set()) return name;
  return "";
}

Limits limits_of(at::Device device) {
  if (!device.is_cpu()) return cuda_limits(device);
  const int threads = at::get_num_threads();
  return {processor() + ", " + std::to_string(threads) + (threads == 1 ? " thread, " : " threads, ") + instructions(),
          copy_bandwidth(device), 0};
}

}  // namespace vlmamba::bench
