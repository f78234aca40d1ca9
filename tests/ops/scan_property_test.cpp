// What the scans promise beside being right on ordinary numbers: hard values, isolation, and the same bits whatever the
// surroundings. On every instruction set.

#include "tests/ops/scan_cases.h"
#include "tests/ops/tolerance.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::fp64;
using test::ScanCase;

class ScanProperty : public test::OnEveryInstructionSet {};

std::vector<Tensor> run(const ScanCase& s) {
  at::manual_seed(99);
  const Tensor dy = fp64(s.u.sizes()).to(s.u.scalar_type());
  return test::run(s, dy, fp64({s.u.size(0), s.u.size(2), s.A.size(1)}).to(s.A.scalar_type()));
}
constexpr size_t kY = 0, kFinal = 1, kU = 2, kDelta = 3, kA = 4, kB = 5, kC = 6, kZ = 8;

// One channel and state, three steps, no softplus: numbers that can be written down.
ScanCase plain(double decay, double delta = 1) {
  ScanCase s({1, 3, 1, 1}, at::kFloat);
  s.keep_required();
  s.softplus = false;
  s.delta.fill_(delta);
  s.A.fill_(-decay / delta);
  return s;
}

// The relative error of every single element: large elsewhere does not excuse it.
double relative(const Tensor& result, const Tensor& expected) {
  const Tensor x = result.to(at::kDouble), y = expected.to(at::kDouble);
  return ((x - y).abs() / y.abs()).max().item<double>();
}

TEST_P(ScanProperty, FastDecaysKeepTheirGradients) {
  at::manual_seed(20);
  for (const double decay : {0.01, 1.0, 8.0, 16.0, 30.0, 60.0, 80.0}) {
    const ScanCase s = plain(decay);
    const Tensor dy = at::tensor({0.0f, 0.0f, 1.0f}).view({1, 3, 1}), dfinal = at::zeros({1, 1, 1});
    const auto got = test::run(s, dy, dfinal), expected = test::run_reference(s, dy, dfinal);
    // a h itself reaches dA; what it is differs from an fp64 exponential by the rounding of its argument alone.
    EXPECT_LT(relative(got[kA], expected[kA]), 3e-7 + 2e-7 * decay) << "decay " << decay;
  }
}

TEST_P(ScanProperty, WhatHasDecayedIsExactlyZero) {
  at::manual_seed(21);
  for (const double decay : {110.0, 1e3, 1e20, 1e38}) {
    ScanCase s = plain(decay);
    s.initial = at::full({1, 1, 1}, 1e30f);
    const auto got = run(s);
    EXPECT_TRUE(at::equal(got[kY], s.C.squeeze(-1) * (s.B.squeeze(-1) * s.u))) << "decay " << decay;
    EXPECT_TRUE(at::equal(got.back(), at::zeros({1, 1, 1}))) << "decay " << decay;
  }
  ScanCase infinite = plain(1, /*delta=*/1e10);
  infinite.A.fill_(-3e38);
  infinite.u.zero_();
  infinite.initial = at::ones({1, 1, 1});
  EXPECT_TRUE(at::equal(run(infinite)[kY], at::zeros({1, 3, 1})));
}

TEST_P(ScanProperty, SmallDeltasKeepTheirRelativeAccuracy) {
  for (const double low : {-3.0, -5.0, -10.0, -20.0, -40.0, -60.0}) {
    at::manual_seed(22);
    ScanCase s({1, 1, 40, 1}, at::kFloat);
    s.keep_required();
    s.delta = at::linspace(low - 2, low, 40).view({1, 1, 40});
    const Tensor dy = at::randn({1, 1, 40});
    const auto got = test::run(s, dy, at::zeros({1, 40, 1}));
    const Tensor delta = s.delta.to(at::kDouble), bcu = s.u.to(at::kDouble) * s.B.item<double>() * s.C.item<double>();
    EXPECT_LT(relative(got[kY], at::log1p(delta.exp()) * bcu), 7e-7) << "delta from " << low - 2;
    EXPECT_LT(relative(got[kDelta], at::sigmoid(delta) * bcu * dy.to(at::kDouble)), 7e-7) << "delta from " << low - 2;
  }
}

TEST_P(ScanProperty, SoftplusIsTheIdentityAboveTwenty) {
  ScanCase s = plain(0);
  s.softplus = true;
  s.A.zero_();
  s.delta = at::tensor({20.5f, 50.0f, 1e30f}).view({1, 3, 1});
  s.u = at::ones({1, 3, 1});
  s.B.fill_(1);
  s.C.fill_(1);
  EXPECT_TRUE(at::equal(run(s)[kY].flatten(), s.delta.flatten().cumsum(0)));
}

TEST_P(ScanProperty, NothingIsForgottenWithoutDecay) {
  at::manual_seed(23);
  for (const bool by_delta : {true, false}) {
    ScanCase s({1, 65537, 3, 2}, at::kFloat);
    for (test::Optional* x : {&s.D, &s.z, &s.bias}) x->reset();
    s.softplus = false;
    if (by_delta) s.delta.zero_();
    if (!by_delta) s.A.zero_(), s.u.zero_();
    const auto [y, last] = selective_scan(s.u, s.delta, s.A, s.B, s.C, {}, {}, {}, false, s.initial);
    EXPECT_TRUE(at::equal(last, *s.initial));
  }
}

TEST_P(ScanProperty, GrowingStatesEqualFp64) {
  at::manual_seed(24);
  ScanCase s({2, 40, 5, 3}, at::kFloat);
  s.A = s.A.abs() * 0.5;
  const Tensor dy = at::randn({2, 40, 5}), dfinal = at::zeros({2, 5, 3});
  const auto got = test::run(s, dy, dfinal), expected = test::run_reference(s, dy, dfinal);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_LT(test::error(got[i], expected[i]), 8) << "tensor " << i;
}

// Spoils one channel; every other one, and the other group's B and C, must not notice.
TEST_P(ScanProperty, ASpoiltChannelReachesNoOther) {
  at::manual_seed(25);
  for (const double value : {NAN, INFINITY, -INFINITY})
    for (const int64_t channel : {0, 4, 9}) {
      const ScanCase s({2, 37, 20, 16, 2}, at::kFloat);
      const auto clean = run(s);
      for (const int which : {0, 1, 2}) {
        ScanCase spoilt = s.with([](const Tensor& x) { return x.clone(); });
        (which == 0 ? spoilt.u : which == 1 ? spoilt.delta : *spoilt.z).select(1, 5).select(1, channel).fill_(value);
        const auto got = run(spoilt);
        std::vector<int64_t> others;
        for (int64_t d = 0; d < 20; ++d)
          if (d != channel) others.push_back(d);
        const Tensor index = at::tensor(others);
        for (const size_t i : {kY, kU, kDelta, kZ})
          EXPECT_TRUE(at::equal(got[i].index_select(2, index), clean[i].index_select(2, index))) << i;
        EXPECT_TRUE(at::equal(got[kA].index_select(0, index), clean[kA].index_select(0, index)));
        EXPECT_TRUE(at::equal(got[kFinal].index_select(1, index), clean[kFinal].index_select(1, index)));
        for (const size_t i : {kB, kC}) EXPECT_TRUE(at::equal(got[i].select(2, 1), clean[i].select(2, 1))) << i;
      }
    }
}

// The same for a sequence among others in a row, and for a row.
TEST_P(ScanProperty, ASpoiltSequenceReachesNoOther) {
  at::manual_seed(26);
  ScanCase s({2, 40, 18, 8}, at::kFloat);
  s.initial.reset();
  s.seq_idx = at::cat({at::zeros({2, 13}, at::kInt), at::ones({2, 9}, at::kInt), at::full({2, 18}, 2, at::kInt)}, 1);
  const auto clean = run(s);
  for (const bool in_c : {false, true}) {
    ScanCase spoilt = s.with([](const Tensor& x) { return x.clone(); });
    for (Tensor* x : {&spoilt.u, &spoilt.delta, &spoilt.B}) x->select(0, 1).slice(0, 13, 22).fill_(NAN);
    if (in_c) spoilt.C.select(0, 1).slice(0, 13, 22).fill_(INFINITY);
    const auto got = run(spoilt);
    for (const size_t i : {kY, kU, kDelta, kB, kC, kZ}) {
      EXPECT_TRUE(at::equal(got[i].select(0, 0), clean[i].select(0, 0))) << i;
      EXPECT_TRUE(at::equal(got[i].select(0, 1).slice(0, 0, 13), clean[i].select(0, 1).slice(0, 0, 13))) << i;
      EXPECT_TRUE(at::equal(got[i].select(0, 1).slice(0, 22), clean[i].select(0, 1).slice(0, 22))) << i;
    }
    EXPECT_TRUE(at::equal(got[kFinal], clean[kFinal]));
  }
}

TEST_P(ScanProperty, LanesWithoutAChannelDoNotCount) {
  at::manual_seed(27);
  ScanCase s({1, 6, 3, 4}, at::kFloat);
  s.u.select(1, 2).fill_(1);
  s.delta.select(1, 2).fill_(1);
  s.B.select(1, 2).fill_(INFINITY);  // a lane of zeros would make NaN of it
  s.keep_required();
  at::manual_seed(28);
  const Tensor dy = at::rand({1, 6, 3}) + 0.1, dfinal = at::zeros({1, 3, 4});
  const auto got = test::run(s, dy, dfinal), expected = test::run_reference(s, dy, dfinal);
  EXPECT_TRUE(at::equal(got[kC].to(at::kDouble).isnan(), expected[kC].isnan()));
  EXPECT_TRUE(at::equal(got[kC].to(at::kDouble).isinf(), expected[kC].isinf()));
}

// A sequence's outputs and gradients are the same bits wherever it lies: alone, packed, split, among other rows.
TEST_P(ScanProperty, PackedSequencesEqualSeparateOnes) {
  at::manual_seed(29);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    ScanCase s({1, 70, 40, 16}, type);
    s.initial.reset();
    s.seq_idx = at::cat({at::full({1, 3}, -1, at::kInt), at::zeros({1, 21}, at::kInt), at::ones({1, 46}, at::kInt)}, 1);
    const Tensor dy = at::randn({1, 70, 40}).to(type), none = at::zeros({1, 40, 16});
    const auto packed = test::run(s, dy, none);
    for (const auto& [from, to] : {std::pair{3, 24}, {24, 70}}) {
      ScanCase alone = s;
      alone.seq_idx.reset();
      for (Tensor* x : {&alone.u, &alone.delta, &alone.B, &alone.C, &*alone.z}) *x = x->slice(1, from, to);
      const auto separate = test::run(alone, dy.slice(1, from, to), none);
      for (const size_t i : {kY, kU, kDelta, kB, kC, kZ})
        EXPECT_TRUE(at::equal(packed[i].slice(1, from, to), separate[i])) << i;
    }
  }
}

TEST_P(ScanProperty, SplitScansCarryStatesAndGradients) {
  at::manual_seed(30);
  const ScanCase whole({2, 50, 20, 8}, at::kFloat);
  const Tensor dy = at::randn({2, 50, 20}), dfinal = at::randn({2, 20, 8});
  const auto expected = test::run(whole, dy, dfinal);
  for (const int64_t at : {1, 16, 23, 49}) {
    const auto cut = [&](int64_t from, int64_t to, const Tensor& state) {
      ScanCase part = whole;
      for (Tensor* x : {&part.u, &part.delta, &part.B, &part.C, &*part.z}) *x = x->slice(1, from, to);
      part.initial = state;
      return part;
    };
    const Tensor carried = test::run(cut(0, at, *whole.initial), dy.slice(1, 0, at), dfinal)[kFinal];
    const auto second = test::run(cut(at, 50, carried), dy.slice(1, at), dfinal);
    const auto first = test::run(cut(0, at, *whole.initial), dy.slice(1, 0, at), second.back());
    for (const size_t i : {kY, kU, kDelta, kB, kC, kZ})
      EXPECT_TRUE(at::equal(at::cat({first[i], second[i]}, 1), expected[i])) << i;
    EXPECT_TRUE(at::equal(second[kFinal], expected[kFinal]));
    EXPECT_TRUE(at::equal(first.back(), expected.back()));
  }
}

TEST_P(ScanProperty, AnInfiniteDecayDoesNotReachTheStartOfARun) {
  ScanCase s({2, 20, 33, 4}, at::kFloat);
  s.keep_required();
  s.A = at::full({33, 4}, 200.0);
  s.delta = at::ones({2, 20, 33});
  s.softplus = false;
  s.seq_idx = at::arange(20, at::kInt).expand({2, 20}).contiguous();  // every step a run of its own
  EXPECT_TRUE(at::allclose(run(s)[kY].slice(1, 1), (s.u * (s.B * s.C).sum(-1)).slice(1, 1), 1e-5, 1e-5));
}

TEST_P(ScanProperty, RowsDoNotDependOnTheirOrder) {
  at::manual_seed(31);
  const ScanCase s({5, 20, 33, 4}, at::kFloat);
  const Tensor order = at::tensor({3, 0, 4, 1, 2}), dy = at::randn({5, 20, 33}), dfinal = at::randn({5, 33, 4});
  ScanCase moved = s;
  for (Tensor* x : {&moved.u, &moved.delta, &moved.B, &moved.C, &*moved.z, &*moved.initial})
    *x = x->index_select(0, order);
  const auto got = test::run(moved, dy.index_select(0, order), dfinal.index_select(0, order));
  const auto expected = test::run(s, dy, dfinal);
  for (const size_t i : {kY, kFinal, kU, kDelta, kB, kC, kZ})
    EXPECT_TRUE(at::equal(got[i], expected[i].index_select(0, order))) << i;
}

TEST_P(ScanProperty, ThreadsAndRepetitionChangeNoBit) {
  at::manual_seed(32);
  for (const auto type : {at::kFloat, at::kHalf}) {
    const ScanCase few({1, 33, 300, 16}, type), many({70, 5, 20, 8}, type);
    test::expect_threads_change_nothing([&] { return run(few); });
    test::expect_threads_change_nothing([&] { return run(many); });
    const auto once = run(few), again = run(few);
    for (size_t i = 0; i < once.size(); ++i) EXPECT_TRUE(at::equal(once[i], again[i])) << i;
  }
}

TEST_P(ScanProperty, DirectionsInPlaceEqualPermutedScans) {
  at::manual_seed(33);
  const int64_t H = 5, W = 7, L = H * W, D = 18, N = 16;
  for (const char* scan : {"forward", "bidirectional", "cross"}) {
    const int64_t K = cross_scan(at::zeros({1, L, 1}), scan, H, W).size(1);
    const Tensor u = at::randn({2, L, K, D}), delta = at::randn({2, L, K, D}), A = -at::rand({K, D, N});
    const Tensor B = at::randn({2, L, K, 1, N}), C = at::randn({2, L, K, 1, N});
    const Tensor y = selective_scan_2d(u, delta, A, B, C, {}, {}, true, scan, H, W, /*merge=*/false);
    const Tensor order = cross_scan(at::arange(L, at::kDouble).view({1, L, 1}), scan, H, W).view({K, L}).to(at::kLong);
    for (int64_t k = 0; k < K; ++k) {
      const auto sequence = [&](const Tensor& x) { return x.select(2, k).index_select(1, order[k]); };
      const auto expected =
          std::get<0>(selective_scan(sequence(u), sequence(delta), A[k], sequence(B), sequence(C), {}, {}, {}, true));
      EXPECT_TRUE(at::equal(sequence(y), expected)) << scan << " direction " << k;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, ScanProperty, test::kEveryInstructionSet, test::set_name);

}  // namespace
}  // namespace vlmamba::ops
