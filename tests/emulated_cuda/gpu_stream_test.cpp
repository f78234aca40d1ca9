#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "tests/emulated_cuda/device_under_test.h"

// What only a GPU has: streams and graphs. Kernels work on the current stream, wait for nothing, and can be recorded.

namespace vlmamba::test {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
using Conv = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Optional&, const Optional&, const Optional&,
                                        c10::string_view);
using ConvBackward = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Optional&, const Tensor&,
                                                                const Tensor&, const Optional&, const Optional&,
                                                                const Optional&, c10::string_view);
using Norm = Tensor(const Tensor&, const Tensor&, double);
using NormBackward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double);
using Crossing = Tensor(const Tensor&, c10::string_view, c10::SymInt, c10::SymInt);

using StreamTest = KernelTest;

TEST_F(StreamTest, AGraphOnASideStreamGivesTheBitsOfTheCalls) {
  const c10::cuda::CUDAStreamGuard side(c10::cuda::getStreamFromPool());
  const Tensor x = to_device(at::randn({2, 40, 32})), conv_weight = to_device(at::randn({32, 4}));
  const Tensor norm_weight = to_device(at::randn({32}));
  const Optional seq(to_device(random_runs(2, 40))), none;
  const auto run = [&]() -> std::vector<Tensor> {
    const auto [y, last] = call_kernel<Conv>("vlmamba::causal_conv1d", x, conv_weight, none, none, seq, "silu");
    const auto [dx, dweight, dbias, dinitial] =
        call_kernel<ConvBackward>("vlmamba::causal_conv1d_backward", y, none, x, conv_weight, none, none, seq, "silu");
    const auto [dn, dscale] = call_kernel<NormBackward>("vlmamba::rms_norm_backward", y, x, norm_weight, 1e-5);
    return {y,
            last,
            dx,
            dweight,
            dn,
            dscale,
            call_kernel<Norm>("vlmamba::rms_norm", x, norm_weight, 1e-5),
            call_kernel<Crossing>("vlmamba::cross_scan", x, "cross", c10::SymInt(5), c10::SymInt(8))};
  };
  run();
  at::cuda::CUDAGraph graph;
  graph.capture_begin();
  const auto recorded = run();
  graph.capture_end();
  x.copy_(at::randn(x.sizes()));
  graph.replay();
  const auto called = run();
  for (size_t i = 0; i < called.size(); ++i) EXPECT_TRUE(at::equal(recorded[i], called[i])) << "tensor " << i;
}

}  // namespace
}  // namespace vlmamba::test
