#pragma once

#include <cstdint>
#include <functional>

#include "vlmamba/dist/comm.h"

namespace vlmamba {

/// Runs `work` once for every rank, each in a thread of its own of this process: what is built on Comm is tested so,
/// without ports and with sums in the order of the ranks. A rank that throws ends the others' collectives with Error
/// (peer lost); its exception is thrown again when all threads have ended.
void run_ranks(int64_t size, const std::function<void(Comm&)>& work);

}  // namespace vlmamba
