#include "kernels/cuda/selective_scan_backward.h"
#include "kernels/cuda/selective_scan_walk.h"

namespace vlmamba::cuda::scan {

template struct Instance<float, 1>;
template struct Instance<double, 1>;
template struct Instance<__half, 1>;
template struct Instance<__nv_bfloat16, 1>;

}  // namespace vlmamba::cuda::scan
