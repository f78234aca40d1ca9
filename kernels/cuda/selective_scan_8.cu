#include "kernels/cuda/selective_scan_backward.h"
#include "kernels/cuda/selective_scan_walk.h"

namespace vlmamba::cuda::scan {

template struct Instance<float, 8>;
template struct Instance<double, 8>;
template struct Instance<__half, 8>;
template struct Instance<__nv_bfloat16, 8>;

}  // namespace vlmamba::cuda::scan
