#include <sys/resource.h>

#include "src/train/device_facts.h"

namespace vlmamba::device_facts {

double peak_flops() { return 0; }

int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

void begin_range(const char*) {}
void end_range() {}

}  // namespace vlmamba::device_facts
