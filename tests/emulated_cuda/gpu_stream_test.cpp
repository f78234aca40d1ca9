#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "tests/emulated_cuda/scan_case.h"

// What only a GPU has: streams and graphs. Kernels work on the current stream, wait for nothing, and can be recorded.

namespace vlmamba::test {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Optional = std::optional<Tensor>;
using Text = c10::string_view;
using Size = c10::SymInt;

class StreamTest : public KernelTest {
 protected:
  // Calls `run`, records it on a side stream, and replays it on other numbers: the bits of another call.
  void expect_same_when_replayed(const std::function<Tensors()>& run, const Tensors& inputs) {
    const c10::cuda::CUDAStreamGuard side(c10::cuda::getStreamFromPool());
    run();
    at::cuda::CUDAGraph graph;
    graph.capture_begin();
    const Tensors recorded = run();
    graph.capture_end();
    for (const Tensor& input : inputs) input.copy_(at::rand(input.sizes()));
    graph.replay();
    const Tensors called = run();
    ASSERT_EQ(recorded.size(), called.size());
    for (size_t i = 0; i < called.size(); ++i) {
      ASSERT_EQ(recorded[i].defined(), called[i].defined()) << i;
      if (called[i].defined()) {
        EXPECT_TRUE(at::equal(recorded[i], called[i])) << "tensor " << i;
      }
    }
  }
  void expect_scan_same_when_replayed(const ScanShape& shape) {
    SCOPED_TRACE(testing::Message() << shape);
    const ScanArguments x = on_device(random_arguments(shape));
    const Tensors outputs = call_scan(x);
    Tensor dy = at::randn_like(outputs[0]);
    const Optional dfinal = outputs.size() > 1 ? Optional(at::randn_like(outputs[1])) : Optional();
    expect_same_when_replayed(
        [&] {
          Tensors all = call_scan(x);
          for (const Tensor& gradient : call_scan_backward(x, dy, dfinal)) all.push_back(gradient);
          return all;
        },
        {x.u, x.B, dy});
  }
};

TEST_F(StreamTest, ARecordedScanGivesTheBitsOfTheCalls) {
  ScanShape s{.batch = 3, .length = 60, .channels = 40, .states = 16};
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const bool runs : {false, true}) {
      s.type = type, s.runs = runs;
      expect_scan_same_when_replayed(s);
    }
  ScanShape few{.batch = 1, .length = 3000, .channels = 8, .states = 16};  // cut into segments on any GPU
  few.type = at::kFloat;
  expect_scan_same_when_replayed(few);
  ScanShape many{.batch = 1, .length = 20, .channels = 8, .states = 300};  // in slices of states
  many.type = at::kFloat;
  expect_scan_same_when_replayed(many);
}

TEST_F(StreamTest, ARecordedScanOfAMapGivesTheBitsOfTheCalls) {
  for (const bool merge : {true, false}) {
    ScanShape s{.length = 35, .channels = 24, .states = 16, .scan = "cross", .height = 5, .width = 7, .merge = merge};
    s.type = at::kBFloat16;
    expect_scan_same_when_replayed(s);
  }
}

TEST_F(StreamTest, RecordedConvolutionsGiveTheBitsOfTheCalls) {
  using Conv =
      std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Optional&, const Optional&, const Optional&, Text);
  using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Optional&, const Tensor&,
                                                              const Tensor&, const Optional&, const Optional&,
                                                              const Optional&, Text, std::array<bool, 4>);
  using Conv2d = Tensor(const Tensor&, const Tensor&, const Optional&, Text, Size, Size, Text);
  using Backward2d = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Optional&,
                                                        Text, Size, Size, Text, std::array<bool, 3>);
  for (const int64_t taps : {3, 4}) {
    const Tensor x = to_device(at::randn({2, 40, 32})), weight = to_device(at::randn({32, taps}));
    const Tensor dy = to_device(at::randn({2, 40, 4, 32}));
    const Optional seq(to_device(random_runs(2, 40))), none, bias(to_device(at::randn({32})));
    expect_same_when_replayed(
        [&]() -> Tensors {
          const auto [y, last] = call_kernel<Conv>("vlmamba::causal_conv1d", x, weight, bias, none, seq, "silu");
          const auto [dx, dweight, dbias, dinitial] =
              call_kernel<Backward>("vlmamba::causal_conv1d_backward", y, none, x, weight, bias, none, seq, "silu",
                                    std::array{true, true, true, true});
          const Tensor map =
              call_kernel<Conv2d>("vlmamba::causal_conv1d_2d", x, weight, bias, "cross", Size(5), Size(8), "silu");
          const auto [dmap, dweight2, dbias2] =
              call_kernel<Backward2d>("vlmamba::causal_conv1d_2d_backward", dy, x, weight, bias, "cross", Size(5),
                                      Size(8), "silu", std::array{true, true, true});
          return {y, last, dx, dweight, dbias, map, dmap, dweight2, dbias2};
        },
        {x, dy});
  }
}

TEST_F(StreamTest, RecordedNormsAndCrossingsGiveTheBitsOfTheCalls) {
  using Norm = Tensor(const Tensor&, const Tensor&, double);
  using Backward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double, std::array<bool, 2>);
  using AddNorm = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double);
  using AddBackward = std::tuple<Tensor, Tensor>(const Optional&, const Optional&, const Tensor&, const Tensor&, double,
                                                 std::array<bool, 2>);
  using Crossing = Tensor(const Tensor&, Text, Size, Size);
  const Tensor x = to_device(at::randn({2, 40, 32})), weight = to_device(at::randn({32}));
  constexpr std::array kBoth{true, true};
  expect_same_when_replayed(
      [&]() -> Tensors {
        const Tensor y = call_kernel<Norm>("vlmamba::rms_norm", x, weight, 1e-5);
        const auto [dx, dweight] = call_kernel<Backward>("vlmamba::rms_norm_backward", y, x, weight, 1e-5, kBoth);
        const auto [z, sum] = call_kernel<AddNorm>("vlmamba::add_rms_norm", x, y, weight, 1e-5);
        const auto [dsum, dscale] = call_kernel<AddBackward>("vlmamba::add_rms_norm_backward", Optional(z),
                                                             Optional(sum), sum, weight, 1e-5, kBoth);
        const Tensor scanned = call_kernel<Crossing>("vlmamba::cross_scan", x, "cross", Size(5), Size(8));
        const Tensor merged = call_kernel<Crossing>("vlmamba::cross_merge", scanned, "cross", Size(5), Size(8));
        return {y, dx, dweight, z, sum, dsum, dscale, scanned, merged};
      },
      {x});
}

TEST_F(StreamTest, RecordedStepsOfDecodingGiveTheBitsOfTheCalls) {
  using State = Tensor(Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                       const Optional&, const Optional&, const Optional&, bool);
  using Conv = Tensor(const Tensor&, Tensor&, const Tensor&, const Optional&, Text);
  const auto random = [](at::IntArrayRef sizes) { return to_device(at::randn(sizes)); };
  const Tensor u = random({3, 32}), A = to_device(-at::rand({32, 16})), B = random({3, 1, 16}),
               weight = random({32, 4});
  const Tensor state = random({3, 32, 16}), window = random({3, 3, 32});
  expect_same_when_replayed(
      [&]() -> Tensors {
        Tensor own = state.clone(), own_window = window.clone();
        const Tensor y = call_kernel<State>("vlmamba::selective_state_update", std::ref(own), u, u, A, B, B, Optional(),
                                            Optional(u), Optional(), true);
        const Tensor z =
            call_kernel<Conv>("vlmamba::causal_conv1d_update", u, std::ref(own_window), weight, Optional(), "silu");
        return {y, own, z, own_window};
      },
      {u, B, state});
}

}  // namespace
}  // namespace vlmamba::test
