#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "tests/ops/compare.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/reference.h"
#include "vlmamba/ops/selective_state_update.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::difference;
using test::fp64;
using test::rounding;

struct Step {
  Tensor state, u, delta, A, B, C, D, z, bias;

  Step(int64_t b, int64_t d, int64_t n, int64_t g)
      : state(fp64({b, d, n})),
        u(fp64({b, d})),
        delta(fp64({b, d})),
        A(-at::rand({d, n}, at::kDouble)),
        B(fp64({b, g, n})),
        C(fp64({b, g, n})),
        D(fp64({d})),
        z(fp64({b, d})),
        bias(fp64({d})) {}

  Step to(at::ScalarType type) const {
    Step other = *this;
    for (Tensor* x : {&other.u, &other.delta, &other.B, &other.C, &other.z}) *x = x->to(type);
    const auto math = type == at::kDouble ? at::kDouble : at::kFloat;
    for (Tensor* x : {&other.state, &other.A, &other.D, &other.bias}) *x = x->to(math);
    return other;
  }
  Tensor run() { return selective_state_update(state, u, delta, A, B, C, D, z, bias, true); }
  Tensor run_reference() { return reference::selective_state_update(state, u, delta, A, B, C, D, z, bias, true); }
};

Tensor naive(Step& s) {
  Tensor y = at::zeros_like(s.u);
  const int64_t groups = s.B.size(1);
  for (int64_t b = 0; b < s.u.size(0); ++b)
    for (int64_t d = 0; d < s.u.size(1); ++d) {
      const int64_t g = d / (s.u.size(1) / groups);
      const double dt = std::log1p(std::exp((s.delta[b][d] + s.bias[d]).item<double>())), u = s.u[b][d].item<double>();
      double sum = s.D[d].item<double>() * u;
      for (int64_t n = 0; n < s.A.size(1); ++n) {
        const double h = std::exp(dt * s.A[d][n].item<double>()) * s.state[b][d][n].item<double>() +
                         dt * s.B[b][g][n].item<double>() * u;
        s.state[b][d][n] = h;
        sum += s.C[b][g][n].item<double>() * h;
      }
      const double z = s.z[b][d].item<double>();
      y[b][d] = sum * z / (1 + std::exp(-z));
    }
  return y;
}

TEST(SelectiveStateUpdate, KernelAndReferenceEqualTheDefinition) {
  at::manual_seed(1);
  for (const auto& [d, n, g] : {std::tuple{5, 3, 1}, {4, 1, 2}, {40, 16, 2}, {33, 20, 3}, {7, 0, 1}}) {
    const Step s(2, d, n, g);
    Step a = s, b = s, c = s;
    for (Step* x : {&a, &b, &c}) x->state = s.state.clone();
    const Tensor expected = naive(a);
    EXPECT_LT(difference(b.run(), expected), 1e-12);
    EXPECT_LT(difference(b.state, a.state), 1e-12);
    EXPECT_LT(difference(c.run_reference(), expected), 1e-12);
    EXPECT_LT(difference(c.state, a.state), 1e-12);
  }
}

TEST(SelectiveStateUpdate, NarrowTypesAreRoundedOnceAndTheStateStaysWide) {
  at::manual_seed(2);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    Step narrow = Step(3, 40, 16, 2).to(type), wide = narrow.to(at::kDouble);
    EXPECT_LT(difference(narrow.run(), wide.run_reference()), rounding(type));
    EXPECT_LT(difference(narrow.state, wide.state), 3e-6);
  }
}

TEST(SelectiveStateUpdate, AnyStridesAndThreadsGiveTheSameBits) {
  at::manual_seed(3);
  const Step s = Step(9, 100, 16, 2).to(at::kFloat);
  Step plain = s, strided = s;
  plain.state = s.state.clone();
  for (Tensor* x : {&strided.state, &strided.u, &strided.delta, &strided.A, &strided.B, &strided.C, &strided.D,
                    &strided.z, &strided.bias})
    *x = test::with_strides(*x);
  EXPECT_TRUE(at::equal(strided.run(), plain.run()));
  EXPECT_TRUE(at::equal(strided.state, plain.state));
  test::expect_threads_change_nothing([&]() -> std::vector<Tensor> {
    Step own = s;
    own.state = s.state.clone();
    const Tensor y = own.run();
    return {y, own.state};
  });
}

TEST(SelectiveStateUpdate, RefusesWhatRequiresAGradientInGradMode) {
  Step s(2, 4, 3, 1);
  s.B.requires_grad_();
  EXPECT_EQ(
      test::error_of([&] { s.run(); }),
      "[selective_state_update] B: expected no gradient (selective_scan has them), got a tensor that requires one");
  const c10::AutoGradMode no_grad(false);
  EXPECT_EQ(test::error_of([&] { s.run(); }), "");
}

TEST(SelectiveStateUpdate, RefusesAStateWhoseElementsShareMemory) {
  Step s(2, 4, 3, 1);
  const auto message = [&](const Tensor& state) {
    s.state = state;
    return test::error_of([&] { s.run(); });
  };
  const std::string refused =
      "[selective_state_update] state: expected memory of its own for each element, as it is written into, got "
      "strides ";
  const Tensor memory = at::zeros({48}, at::kDouble);
  EXPECT_EQ(message(memory.narrow(0, 0, 12).view({1, 4, 3}).expand({2, 4, 3})), refused + "[0, 3, 1]");
  EXPECT_EQ(message(memory.as_strided({2, 4, 3}, {11, 3, 1})), refused + "[11, 3, 1]");
  EXPECT_EQ(message(memory.as_strided({2, 4, 3}, {4, 2, 1})), refused + "[4, 2, 1]");
  EXPECT_EQ(message(memory.as_strided({2, 4, 3}, {1, 2, 8})), "");
  EXPECT_EQ(message(memory.as_strided({2, 4, 3}, {24, 6, 2})), "");
}

void expect_one_write(const Tensor& state, const std::function<void()>& update) {
  const auto before = state._version();
  update();
  EXPECT_EQ(state._version(), before + 1);
}

TEST(Updates, CountEachWriteOnceForAutogradInEveryMode) {
  Step s(2, 4, 3, 1);
  Tensor window = fp64({2, 3, 4}), part = window.narrow(2, 0, 4);
  const Tensor weight = fp64({4, 4});
  const auto write = [&] {
    expect_one_write(s.state, [&] { s.run(); });
    expect_one_write(window, [&] { causal_conv1d_update(s.u, window, weight); });
    expect_one_write(window, [&] { causal_conv1d_update(s.u, part, weight); });  // a view of it
  };
  write();
  {
    const c10::NoGradGuard no_grad;
    write();
  }
  const c10::InferenceMode inference;
  write();
}

TEST(Updates, AutogradNoticesThatAStateWhichItSavedHasChanged) {
  for (const bool inference : {false, true}) {
    Step s(2, 4, 3, 1);
    const Tensor x = fp64({2, 4, 3}).requires_grad_(), sum = (x * s.state).sum();
    {
      const c10::InferenceMode mode(inference);
      s.run();
    }
    EXPECT_NE(test::error_of([&] { torch::autograd::backward({sum}, {}); }).find("modified by an inplace operation"),
              std::string::npos);
  }
}

TEST(Updates, WriteIntoStatesThatInferenceModeMade) {
  const Step s(2, 4, 3, 1);
  Step expected = s;
  expected.state = s.state.clone();
  const Tensor y = expected.run();
  Step made = s;
  {
    const c10::InferenceMode inference;
    made.state = s.state.clone();
    EXPECT_TRUE(at::equal(made.run(), y));
    EXPECT_TRUE(at::equal(made.state, expected.state));
  }
}

TEST(CausalConv1dUpdate, EqualsTheReferenceInEveryTypeAndWidth) {
  at::manual_seed(4);
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf})
    for (const int64_t taps : {1, 2, 4, 7})
      for (const char* activation : {"none", "silu"}) {
        const Tensor x = at::randn({3, 37}).to(type), state = at::randn({3, taps - 1, 37}).to(type),
                     weight = at::randn({37, taps}).to(type), bias = at::randn({37}).to(type);
        Tensor own = state.clone(), strided = test::with_strides(state), wide = state.to(at::kDouble);
        const Tensor y = causal_conv1d_update(x, own, weight, bias, activation);
        const Tensor expected = reference::causal_conv1d_update(x.to(at::kDouble), wide, weight.to(at::kDouble),
                                                                bias.to(at::kDouble), activation);
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_LT(difference(y, expected), rounding(type)) << taps << activation << type;
        EXPECT_TRUE(at::equal(own.to(at::kDouble), wide));
        EXPECT_TRUE(at::equal(y, causal_conv1d_update(test::with_strides(x), strided, test::with_strides(weight),
                                                      test::with_strides(bias), activation)));
        EXPECT_TRUE(at::equal(strided, own));
      }
}

TEST(CausalConv1dUpdate, RefusesWhatRequiresAGradientInGradMode) {
  Tensor state = fp64({2, 3, 4});
  const Tensor x = fp64({2, 4}), weight = fp64({4, 4}).requires_grad_();
  EXPECT_EQ(
      test::error_of([&] { causal_conv1d_update(x, state, weight); }),
      "[causal_conv1d_update] weight: expected no gradient (causal_conv1d has them), got a tensor that requires one");
}

TEST(Updates, EmptyBatchesWork) {
  Step s(0, 4, 3, 1);
  EXPECT_EQ(s.run().sizes(), at::IntArrayRef({0, 4}));
  Tensor state = fp64({0, 3, 4});
  EXPECT_EQ(causal_conv1d_update(fp64({0, 4}), state, fp64({4, 4})).sizes(), at::IntArrayRef({0, 4}));
}

}  // namespace
}  // namespace vlmamba::ops
