#include "kernels/cuda/selective_scan_backward.h"
#include "kernels/cuda/selective_scan_walk.h"

namespace vlmamba::cuda::scan {

template struct Instance<float, 64>;
template struct Instance<double, 64>;
template struct Instance<__half, 64>;
template struct Instance<__nv_bfloat16, 64>;

}  // namespace vlmamba::cuda::scan
