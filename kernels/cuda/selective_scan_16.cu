#include "kernels/cuda/selective_scan_backward.h"
#include "kernels/cuda/selective_scan_walk.h"

namespace vlmamba::cuda::scan {

template struct Instance<float, 16>;
template struct Instance<double, 16>;
template struct Instance<__half, 16>;
template struct Instance<__nv_bfloat16, 16>;

}  // namespace vlmamba::cuda::scan
