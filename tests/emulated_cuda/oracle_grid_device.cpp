#include "tests/emulated_cuda/engine.h"
#include "tests/ops/oracle_grid/case.h"

// The random grid of tests/ops/oracle_grid on the emulated device.

namespace vlmamba::oracle {

bool is_emulated() { return true; }

void prepare_device(Case& c) {
  emulation::set_thread_order(static_cast<uint64_t>(c.integer(0, 1000)));
  emulation::set_multiprocessors(c.pick<int>("multiprocessors", {1, 2, 4, 16}));
}

}  // namespace vlmamba::oracle
