// The lane kernel of cross_merge; see lanes.h for how it is compiled.

#include "kernels/cpu/cross_lanes.h"

#include "kernels/cpu/storage_lanes.h"

namespace vlmamba::cpu::VLMAMBA_PATH {

template <typename S>
void merge(const MergeProblem<S>& p, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    const int64_t row = i / p.length, pixel = i % p.length;
    for (int64_t c = 0; c < p.channels; c += kLanes) {
      const int64_t width = least(p.channels - c, kLanes);
      Lanes<Math<S>> sum{};
      for (int64_t k = 0; k < p.directions; ++k) {
        const int64_t at = (row * p.directions + k) * p.length + p.step[k * p.length + pixel];
        sum += load(p.x + at * p.channels + c, width);
      }
      store(p.y + i * p.channels + c, sum, width);
    }
  }
}
template void merge(const MergeProblem<float>&, int64_t, int64_t);
template void merge(const MergeProblem<double>&, int64_t, int64_t);
template void merge(const MergeProblem<BFloat16>&, int64_t, int64_t);
template void merge(const MergeProblem<Half>&, int64_t, int64_t);

}  // namespace vlmamba::cpu::VLMAMBA_PATH
