#include <sstream>

#include "tests/emulated_cuda/device_under_test.h"
#include "vlmamba/ops/reference.h"

// The two steps of decoding on the device against the reference in fp64 on the same rounded inputs.

namespace vlmamba::test {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
using StateUpdate = Tensor(Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                           const Optional&, const Optional&, const Optional&, bool);
using ConvUpdate = Tensor(const Tensor&, Tensor&, const Tensor&, const Optional&, c10::string_view);

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

at::ScalarType wide(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }
Tensor random(at::IntArrayRef sizes, at::ScalarType type) { return at::randn(sizes, at::kDouble).to(type); }
Optional in_fp64(const Optional& tensor) { return tensor ? Optional(tensor->to(at::kDouble)) : tensor; }

struct Step {
  Tensor state, u, delta, A, B, C;
  Optional D, z, bias;
  bool softplus;

  Step(int64_t batch, int64_t channels, int64_t groups, int64_t states, at::ScalarType type, bool everything)
      : state(random({batch, channels, states}, wide(type))),
        u(random({batch, channels}, type)),
        delta(everything ? random({batch, channels}, type) : random({batch, channels}, type).abs()),
        A(random({channels, states}, wide(type)).abs().neg()),
        B(random({batch, groups, states}, type)),
        C(random({batch, groups, states}, type)),
        softplus(everything) {
    if (!everything) return;
    D = random({channels}, wide(type)), z = random({batch, channels}, type), bias = random({channels}, wide(type));
  }
  std::vector<Tensor> on_device() const {
    Tensor own = to_device(state.clone(at::MemoryFormat::Preserve));
    const Tensor y = run_kernel<StateUpdate>("vlmamba::selective_state_update", std::ref(own), u, delta, A, B, C, D, z,
                                             bias, softplus);
    return {y, own.cpu()};
  }
  std::vector<Tensor> expected() const {
    Tensor own = state.to(at::kDouble).clone();
    const Tensor y = ops::reference::selective_state_update(own, u.to(at::kDouble), delta.to(at::kDouble),
                                                            A.to(at::kDouble), B.to(at::kDouble), C.to(at::kDouble),
                                                            in_fp64(D), in_fp64(z), in_fp64(bias), softplus);
    return {y, own};
  }
};

void expect_step_equals_reference(const Step& step, at::ScalarType type) {
  std::ostringstream text;
  text << step.state.sizes() << " " << type << " groups " << step.B.size(1);
  SCOPED_TRACE(text.str());
  const auto actual = same_in_every_order([&] { return step.on_device(); }), expected = step.expected();
  EXPECT_EQ(actual[0].scalar_type(), type);
  expect_close(actual[0], expected[0], tolerance(type), "y", 4);
  expect_close(actual[1], expected[1], tolerance(wide(type)), "state");
}

using UpdateKernel = KernelTest;

TEST_F(UpdateKernel, StateEqualsTheReferenceForEveryTypeAndShape) {
  for (const auto type : kTypes)
    for (const int64_t states : {1, 2, 3, 8, 16, 17, 64})
      for (const bool everything : {false, true})
        expect_step_equals_reference({2, 10, 2, states, type, everything}, type);
  for (const int64_t states : {128, 130, 256})
    expect_step_equals_reference({2, 3, 3, states, at::kFloat, true}, at::kFloat);
  for (const int64_t channels : {1, 7, 33, 100})
    expect_step_equals_reference({3, channels, 1, 16, at::kBFloat16, true}, at::kBFloat16);
}

TEST_F(UpdateKernel, StateTakesAnyStridesAndAnEmptyBatch) {
  Step step(2, 6, 1, 16, at::kFloat, true);
  const auto plain = step.on_device();
  step.state = step.state.transpose(1, 2).contiguous().transpose(1, 2);
  step.u = at::empty({13}).slice(0, 1).copy_(step.u.flatten()).view({2, 6});
  const auto strided = step.on_device();
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], strided[i])) << i;
  EXPECT_EQ(Step(0, 6, 1, 16, at::kFloat, true).on_device()[0].numel(), 0);
}

TEST_F(UpdateKernel, NotANumberStaysInItsChannel) {
  Step step(2, 6, 1, 16, at::kFloat, true);
  const auto clean = step.on_device();
  step.u[1][4] = NAN;
  step.state[0][2][3] = INFINITY;
  const auto dirty = step.on_device();
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t channel = 0; channel < 6; ++channel) {
      const bool own = (row == 1 && channel == 4) || (row == 0 && channel == 2);
      EXPECT_EQ(at::equal(clean[0][row][channel], dirty[0][row][channel]), !own) << row << " " << channel;
    }
}

TEST_F(UpdateKernel, ConvolutionEqualsTheReferenceForEveryTypeAndWidth) {
  for (const auto type : kTypes)
    for (const int64_t taps : {1, 2, 4, 9})
      for (const int64_t channels : {1, 33, 130})
        for (const char* activation : {"none", "silu"}) {
          std::ostringstream text;
          text << type << " W" << taps << " D" << channels << " " << activation;
          SCOPED_TRACE(text.str());
          const Tensor x = random({3, channels}, type), state = random({3, taps - 1, channels}, type);
          const Tensor weight = random({channels, taps}, wide(type));
          const Optional bias = random({channels}, wide(type));
          const auto actual = same_in_every_order([&]() -> std::vector<Tensor> {
            Tensor own = to_device(state.clone());
            const Tensor y =
                run_kernel<ConvUpdate>("vlmamba::causal_conv1d_update", x, std::ref(own), weight, bias, activation);
            return {y, own.cpu()};
          });
          Tensor moved = state.to(at::kDouble).clone();
          const Tensor y = ops::reference::causal_conv1d_update(x.to(at::kDouble), moved, weight.to(at::kDouble),
                                                                in_fp64(bias), activation);
          expect_close(actual[0], y, tolerance(type), "y");
          EXPECT_TRUE(at::equal(actual[1], moved.to(type))) << "state";
        }
}

}  // namespace
}  // namespace vlmamba::test
