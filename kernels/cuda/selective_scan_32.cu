#include "kernels/cuda/selective_scan_backward.h"
#include "kernels/cuda/selective_scan_walk.h"

namespace vlmamba::cuda::scan {

template struct Instance<float, 32>;
template struct Instance<double, 32>;
template struct Instance<__half, 32>;
template struct Instance<__nv_bfloat16, 32>;

}  // namespace vlmamba::cuda::scan
