#include "kernels/cpu/work.h"
#include "tests/ops/oracle_grid/case.h"

namespace vlmamba::oracle {

bool is_emulated() { return false; }

// Every path of the CPU kernels has its turn, where this processor has the instructions.
void prepare_device(Case& c) {
  using cpu::InstructionSet;
  if (!c.setting.device.is_cpu()) return;
  const auto set = static_cast<InstructionSet>(c.pick<int>("instructions", {0, 1, 2}));
  cpu::use_instruction_set(cpu::has_instruction_set(set) ? set : InstructionSet::kBaseline);
}

}  // namespace vlmamba::oracle
