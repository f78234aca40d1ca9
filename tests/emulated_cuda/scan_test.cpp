#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/emulated_cuda/scan_case.h"
#include "vlmamba/ops/scan_order.h"

// The scans' kernels against the plain-ATen reference in fp64, over random shapes and arguments, and against
// themselves.

namespace vlmamba::test {
namespace {

using at::Tensor;

class ScanKernel : public KernelTest {};

// A tile of the kernels is 24 steps.
constexpr int64_t kLengths[] = {1, 2, 23, 24, 25, 31, 47, 48, 49, 53};
constexpr int64_t kStates[] = {1, 2, 3, 7, 8, 16, 17, 32, 64};
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kDouble, at::kHalf};

double root_mean_square(const Tensor& x) {
  return x.numel() == 0 ? 1 : x.to(at::kDouble).square().mean().sqrt().item<double>();
}

// Rounded once: what a 16-bit type loses, and beside it no more than the arithmetic does, relative to the number or to
// its tensor's typical size.
void expect_rounded_once(const Tensor& actual, const Tensor& expected, double factor, const char* what) {
  const at::ScalarType type = actual.scalar_type();
  const double half_unit = type == at::kBFloat16 ? 0x1p-8 : type == at::kHalf ? 0x1p-11 : 0;
  const double arithmetic = factor * tolerance(type == at::kDouble ? at::kDouble : at::kFloat);
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  if (actual.numel() == 0) return;
  const Tensor size = expected.abs(), error = (actual.to(at::kDouble) - expected).abs();
  const Tensor allowed = half_unit * size + arithmetic * size.clamp_min(root_mean_square(expected)) + 1e-30;
  EXPECT_LE((error / allowed).max().item<double>(), 1) << what << ", " << type;
}

// Values and every gradient.
void expect_reference(const ScanArguments& x) {
  SCOPED_TRACE(testing::Message() << x.shape);
  const at::ScalarType math = x.shape.type == at::kDouble ? at::kDouble : at::kFloat;
  const ScanArguments wide = in_fp64(x);
  const auto got = run_scan(x), wanted = reference_scan(wide);
  expect_rounded_once(got[0], wanted[0], 8, "y");
  if (got.size() > 1) expect_rounded_once(got[1], wanted[1], 8, "final_state");
  const Tensor dy = at::randn(wanted[0].sizes(), x.shape.type);
  const OptionalTensor dfinal = got.size() > 1 ? OptionalTensor(at::randn(got[1].sizes(), math)) : std::nullopt;
  const auto found = run_scan_backward(x, dy, dfinal);
  const auto expected = reference_scan_backward(wide, dy.to(at::kDouble),
                                                dfinal ? OptionalTensor(dfinal->to(at::kDouble)) : std::nullopt);
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].defined(), expected[i].defined()) << kScanGradientNames[i];
    if (found[i].defined()) expect_rounded_once(found[i], expected[i], 16, kScanGradientNames[i]);
  }
}

bool coin() { return at::randint(2, {1}).item<int64_t>() == 1; }
int64_t one_of(at::IntArrayRef choices) {
  return choices[static_cast<size_t>(at::randint(static_cast<int64_t>(choices.size()), {1}).item<int64_t>())];
}

ScanShape random_shape() {
  ScanShape s;
  s.type = kTypes[one_of({0, 1, 2, 3})];
  s.states = one_of(kStates);
  s.length = one_of(kLengths);
  s.batch = one_of({1, 2, 3});
  s.channels = one_of({1, 7, 33, 100});
  s.groups = s.channels == 1 ? 1 : s.channels == 100 ? one_of({1, 2, 2}) : s.channels == 7 ? one_of({1, 7}) : 1;
  s.skip = coin(), s.gate = coin(), s.bias = coin(), s.softplus = coin(), s.initial = coin(), s.runs = coin();
  s.largest_rate = coin() ? 1 : 20;
  return s;
}

TEST_F(ScanKernel, EqualsTheReferenceOnRandomShapes) {
  at::manual_seed(2);
  const auto orders = thread_orders();
  for (size_t i = 0; i < 40; ++i) {
    set_thread_order(orders[i % orders.size()]);
    expect_reference(random_arguments(random_shape()));
  }
}

TEST_F(ScanKernel, EqualsTheReferenceOnRandomMaps) {
  at::manual_seed(3);
  const auto orders = thread_orders();
  for (size_t i = 0; i < 16; ++i) {
    set_thread_order(orders[i % orders.size()]);
    ScanShape s = random_shape();
    s.scan = i % 4 == 0 ? "forward" : i % 4 == 1 ? "bidirectional" : "cross";
    s.height = one_of({1, 5, 6}), s.width = one_of({1, 4, 5, 9});
    s.length = s.height * s.width;
    s.channels = one_of({1, 7, 33});
    s.groups = s.channels == 33 ? one_of({1, 3}) : s.channels == 7 ? one_of({1, 7}) : 1;
    s.batch = one_of({1, 2});
    s.merge = coin(), s.u_per_direction = coin();
    expect_reference(random_arguments(s));
  }
}

TEST_F(ScanKernel, EveryTypeAndManyStates) {
  for (const auto type : kTypes)
    for (const int64_t states : {16, 100}) {
      ScanShape s{.length = 27, .channels = 10, .states = states, .groups = 2};
      s.type = type;
      s.runs = true;
      expect_reference(random_arguments(s));
    }
}

TEST_F(ScanKernel, TakesMoreStatesThanABlockHolds) {
  for (const auto type : kTypes)
    for (const char* scan : {"", "bidirectional"}) {
      ScanShape s{.length = 6, .channels = 4, .states = 300, .groups = 2, .scan = scan, .height = 2, .width = 3};
      s.type = type;
      s.runs = s.scan.empty();
      expect_reference(random_arguments(s));
    }
}

// Few blocks for many processors: sequences are cut into segments, forward and backward.
TEST_F(ScanKernel, SegmentsEqualTheReference) {
  at::manual_seed(4);
  for (const bool runs : {false, true})
    for (const auto type : {at::kDouble, at::kBFloat16}) {
      set_multiprocessors(16);
      ScanShape s{.batch = 3, .length = 330, .channels = 6, .states = 4, .groups = 2};
      s.type = type;
      s.runs = runs;
      s.largest_rate = 0.05;  // so that states outlive a segment
      const ScanArguments x = random_arguments(s);
      expect_reference(x);
      const auto cut = run_scan(x);
      set_multiprocessors(1);
      if (!runs && type == at::kDouble && kernel_key() == c10::DispatchKey::PrivateUse1) {
        EXPECT_FALSE(at::equal(cut[0], run_scan(x)[0])) << "was not cut";
      }
    }
  set_multiprocessors(16);
  ScanShape map{.batch = 1, .length = 306, .channels = 5, .states = 3};
  map.scan = "cross", map.height = 18, map.width = 17;
  map.largest_rate = 0.05;
  for (const bool merge : {true, false}) {
    map.merge = merge;
    expect_reference(random_arguments(map));
  }
}

TEST_F(ScanKernel, HardValues) {
  const auto with = [](double rate, double shift, double scale, at::ScalarType type = at::kFloat) {
    ScanShape s{.length = 50, .channels = 9, .states = 8};
    s.type = type;
    s.largest_rate = rate, s.delta_shift = shift, s.delta_scale = scale;
    s.bias = false;
    return random_arguments(s);
  };
  expect_reference(with(16, 0.5, 0.4));  // |delta A| to 16
  expect_reference(with(60, 3, 2));      // decays that are zero
  expect_reference(with(1, -12, 4));     // tiny steps: softplus keeps its relative accuracy
  expect_reference(with(0.5, 19, 3));    // around the threshold of softplus
  expect_reference(with(0.5, 19, 3, at::kDouble));
  expect_reference(with(0, 0, 1));  // no decay at all
}

// The term a h' where a is tiny: computed as h - b u it would be wrong by a fifth.
TEST_F(ScanKernel, FastDecaysKeepTheirGradients) {
  ScanShape s{.length = 60, .channels = 8, .states = 16};
  s.type = at::kFloat;
  s.skip = s.gate = s.bias = s.softplus = s.initial = false;
  ScanArguments x = random_arguments(s);
  x.A = at::full_like(x.A, -16.0);
  x.delta = 0.9 + 0.1 * at::rand_like(x.delta);
  const Tensor dy = at::randn({2, 60, 8});
  const auto found = run_scan_backward(x, dy, {});
  const auto expected = reference_scan_backward(in_fp64(x), dy.to(at::kDouble), {});
  EXPECT_LT(((found[2].to(at::kDouble) - expected[2]).norm() / expected[2].norm()).item<double>(), 1e-5);
}

TEST_F(ScanKernel, IsTheSameInEveryThreadOrder) {
  ScanShape s{.length = 30, .channels = 70, .states = 16};
  s.type = at::kBFloat16;
  s.runs = true;
  const ScanArguments x = random_arguments(s);
  const Tensor dy = at::randn({2, 30, 70}, at::kBFloat16), dfinal = at::randn({2, 70, 16});
  same_in_every_order([&] {
    auto all = run_scan(x);
    for (const Tensor& gradient : run_scan_backward(x, dy, dfinal)) all.push_back(gradient);
    return all;
  });
}

TEST_F(ScanKernel, ComputesTheGradientsThatAreWanted) {
  ScanShape s{.length = 30, .channels = 18, .states = 16};
  s.type = at::kFloat;
  s.gate = s.skip = s.bias = s.initial = true;
  const ScanArguments x = random_arguments(s);
  const Tensor dy = at::randn({2, 30, 18}), dfinal = at::randn({2, 18, 16});
  expect_only_wanted<9>([&](const WantedScanGradients& wanted) { return run_scan_backward(x, dy, dfinal, wanted); });
}

TEST_F(ScanKernel, ADirectionInPlaceEqualsThePermutedScan) {
  const int64_t H = 4, W = 7, L = H * W, K = 4, D = 18;
  ScanShape s{.length = L, .channels = D, .states = 16, .scan = "cross", .height = H, .width = W, .merge = false};
  s.type = at::kFloat;
  const ScanArguments x = random_arguments(s);
  const auto order = ops::scan_order("cross", H, W);
  const Tensor y = run_scan(x)[0];
  for (int64_t k = 0; k < K; ++k) {
    const Tensor at_step = at::tensor(at::ArrayRef(order).slice(static_cast<size_t>(k * L), static_cast<size_t>(L)));
    const auto permuted = [&](const Tensor& t) { return t.index_select(1, at_step.to(at::kLong)); };
    ScanArguments one;
    one.shape = s;
    one.shape.scan.clear();
    one.u = permuted(x.u);
    one.delta = permuted(x.delta.select(2, k)), one.B = permuted(x.B.select(2, k)), one.C = permuted(x.C.select(2, k));
    one.A = x.A[k], one.D = (*x.D)[k], one.bias = (*x.bias)[k];
    EXPECT_TRUE(at::equal(permuted(y.select(2, k)), run_scan(one)[0])) << "direction " << k;
  }
  ScanArguments merged = x;
  merged.shape.merge = true;
  const Tensor sum = ((y.select(2, 0) + y.select(2, 1)) + y.select(2, 2)) + y.select(2, 3);
  EXPECT_TRUE(at::equal(run_scan(merged)[0], sum));
}

ScanArguments part(const ScanArguments& x, int64_t from, int64_t to, const OptionalTensor& initial) {
  ScanArguments cut = x;
  for (Tensor* t : {&cut.u, &cut.delta, &cut.B, &cut.C}) *t = t->slice(1, from, to);
  if (x.z) cut.z = x.z->slice(1, from, to);
  if (x.seq_idx) cut.seq_idx = x.seq_idx->slice(1, from, to);
  cut.initial = initial;
  return cut;
}

TEST_F(ScanKernel, SplitWithCarriedStateEqualsUnsplit) {
  ScanShape s{.length = 40, .channels = 20, .states = 8};
  s.type = at::kFloat;
  const ScanArguments x = random_arguments(s);
  const auto whole = run_scan(x);
  for (const int64_t at : {1, 17, 24, 39}) {
    const auto first = run_scan(part(x, 0, at, x.initial)), second = run_scan(part(x, at, 40, first[1]));
    EXPECT_TRUE(at::equal(at::cat({first[0], second[0]}, 1), whole[0])) << at;
    EXPECT_TRUE(at::equal(second[1], whole[1])) << at;
  }
}

TEST_F(ScanKernel, PackedEqualsSeparateAndPaddingIsNeverRead) {
  ScanShape s{.batch = 1, .length = 40, .channels = 20, .states = 8};
  s.type = at::kFloat;
  s.initial = false;
  ScanArguments x = random_arguments(s);
  Tensor ids = at::full({1, 40}, -1, at::kInt);
  const std::pair<int64_t, int64_t> runs[] = {{2, 3}, {3, 15}, {15, 26}, {30, 38}};
  for (int i = 0; i < 4; ++i) ids.slice(1, runs[i].first, runs[i].second).fill_(5 - i);
  const Tensor padding = ids.lt(0).unsqueeze(-1), dy = at::randn({1, 40, 20});
  for (Tensor* t : {&x.u, &x.delta}) t->masked_fill_(padding, NAN);
  for (Tensor* t : {&x.B, &x.C}) t->masked_fill_(padding.unsqueeze(-1), std::numeric_limits<double>::infinity());
  x.z->masked_fill_(padding, NAN);
  x.seq_idx = ids;
  const auto packed = run_scan(x);
  const auto gradients = run_scan_backward(x, dy.masked_fill(padding, NAN), {});
  for (const size_t i : {0, 1, 3, 4, 6})
    EXPECT_TRUE(gradients[i][0].flatten(1).masked_select(padding[0]).eq(0).all().item<bool>()) << kScanGradientNames[i];
  EXPECT_TRUE(packed[0].masked_select(padding).eq(0).all().item<bool>());
  Tensor da = at::zeros_like(gradients[2]);
  for (const auto& [from, to] : runs) {
    ScanArguments alone = part(x, from, to, {});
    alone.seq_idx = {};
    EXPECT_TRUE(at::equal(run_scan(alone)[0], packed[0].slice(1, from, to)));
    const auto own = run_scan_backward(alone, dy.slice(1, from, to), {});
    for (const size_t i : {0, 1, 3, 4, 6})
      EXPECT_TRUE(at::equal(own[i], gradients[i].slice(1, from, to))) << kScanGradientNames[i];
    da += own[2];
    if (to == 38) {
      EXPECT_TRUE(at::equal(run_scan(alone)[1], packed[1]));
    }
  }
  expect_rounded_once(gradients[2], da.to(at::kDouble), 16, "dA");
}

TEST_F(ScanKernel, NotANumberStaysInItsSequenceAndChannel) {
  ScanShape s{.batch = 2, .length = 30, .channels = 40, .states = 16};
  s.type = at::kFloat;
  s.initial = false;
  const ScanArguments clean = random_arguments(s);
  ScanArguments x = clean;
  Tensor ids = at::zeros({2, 30}, at::kInt);
  ids.slice(1, 10, 20).fill_(1), ids.slice(1, 20, 30).fill_(2);
  x.seq_idx = ids;
  const Tensor dy = at::randn({2, 30, 40});
  const auto expected = run_scan(x), wanted = run_scan_backward(x, dy, {});
  for (const double bad : {static_cast<double>(NAN), std::numeric_limits<double>::infinity()}) {
    Tensor spoilt_dy = dy.clone();
    x.u = clean.u.clone(), x.delta = clean.delta.clone();
    x.u[0][13][7] = bad, x.delta[0][15][8] = bad, spoilt_dy[0][12][9] = bad;
    const auto got = run_scan(x), found = run_scan_backward(x, spoilt_dy, {});
    const auto without = [](Tensor t) {  // the run and, of the rest, the channels that may be spoilt
      t = t.clone();
      t[0].slice(0, 10, 20).slice(1, 7, 10).fill_(0);
      return t;
    };
    EXPECT_TRUE(at::equal(without(got[0]), without(expected[0])));
    EXPECT_TRUE(at::equal(got[1], expected[1]));
    for (const size_t i : {0, 1, 6}) EXPECT_TRUE(at::equal(without(found[i]), without(wanted[i]))) << i;
    for (const size_t i : {3, 4})  // dB and dC of a position are sums over all channels
      for (const auto& [from, to] : {std::pair{0, 10}, {20, 30}})
        EXPECT_TRUE(at::equal(found[i].slice(1, from, to), wanted[i].slice(1, from, to))) << i;
    for (const size_t i : {2, 5, 7})
      for (const auto& [from, to] : {std::pair{0, 7}, {10, 40}})
        EXPECT_TRUE(at::equal(found[i].slice(0, from, to), wanted[i].slice(0, from, to))) << i;
  }
}

// Where every step is a run of its own, A has no say; only the first step of a row decays something.
TEST_F(ScanKernel, AnInfiniteDecayDoesNotReachTheStartOfARun) {
  ScanShape s{.length = 30, .channels = 18, .states = 8};
  s.type = at::kFloat;
  s.softplus = s.bias = s.initial = false;
  ScanArguments x = random_arguments(s);
  x.delta.fill_(1);
  x.seq_idx = at::arange(30, at::kInt).expand({2, 30}).contiguous();
  const Tensor dy = at::randn({2, 30, 18});
  const auto run_with = [&](double rate) {
    x.A.fill_(rate);
    auto all = run_scan_backward(x, dy, {});
    all.push_back(run_scan(x)[0]);
    return all;
  };
  const auto infinite = run_with(200), usual = run_with(-1);
  for (const size_t i : {0, 1, 3, 4, 6, 9}) EXPECT_TRUE(at::equal(infinite[i].slice(1, 1), usual[i].slice(1, 1))) << i;
}

TEST_F(ScanKernel, PaddingHasNoGradientBesideInfiniteStates) {
  ScanShape s{.batch = 1, .length = 30, .channels = 18, .states = 8};
  s.type = at::kFloat;
  ScanArguments x = random_arguments(s);
  Tensor ids = at::zeros({1, 30}, at::kInt);
  ids.slice(1, 10, 14).fill_(-1), ids.slice(1, 14, 26).fill_(1), ids.slice(1, 26).fill_(-1);
  x.seq_idx = ids;
  x.u[0][5][3] = std::numeric_limits<double>::infinity();
  Tensor dfinal = at::randn({1, 18, 8});
  dfinal[0][3][1] = std::numeric_limits<double>::infinity();
  const auto found = run_scan_backward(x, at::randn({1, 30, 18}), dfinal);
  for (const size_t i : {0, 1, 3, 4, 6})
    EXPECT_TRUE(found[i][0].flatten(1).index({ids[0].lt(0)}).eq(0).all().item<bool>()) << kScanGradientNames[i];
}

TEST_F(ScanKernel, EmptyInputsWork) {
  for (const auto& [batch, length] : {std::pair{0, 5}, {2, 0}}) {
    ScanShape s{.batch = batch, .length = length};
    const ScanArguments x = random_arguments(s);
    const auto got = run_scan(x);
    EXPECT_EQ(got[0].numel(), 0);
    EXPECT_TRUE(at::equal(got[1], *x.initial));
    const Tensor dfinal = at::randn_like(*x.initial);
    const auto found = run_scan_backward(x, at::zeros_like(x.u), dfinal);
    EXPECT_TRUE(at::equal(found[8], dfinal));
    EXPECT_EQ(found[2].abs().sum().item<double>(), 0);
  }
  ScanShape stateless{.states = 0};
  expect_reference(random_arguments(stateless));
}

}  // namespace
}  // namespace vlmamba::test
