#include "kernels/cuda/selective_scan_backward.h"
#include "kernels/cuda/selective_scan_walk.h"

namespace vlmamba::cuda::scan {

template struct Instance<float, 256>;
template struct Instance<double, 256>;
template struct Instance<__half, 256>;
template struct Instance<__nv_bfloat16, 256>;

}  // namespace vlmamba::cuda::scan
