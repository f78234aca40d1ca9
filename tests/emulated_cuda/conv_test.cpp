#include <sstream>
#include <string>

#include "tests/emulated_cuda/device_under_test.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/reference.h"

// causal_conv1d and causal_conv1d_2d of the device against the reference in fp64 on the same rounded inputs.

namespace vlmamba::test {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
using Forward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Optional&, const Optional&,
                                           const Optional&, c10::string_view);
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Optional&, const Tensor&,
                                                            const Tensor&, const Optional&, const Optional&,
                                                            const Optional&, c10::string_view, std::array<bool, 4>);
using Forward2d = Tensor(const Tensor&, const Tensor&, const Optional&, c10::string_view, c10::SymInt, c10::SymInt,
                         c10::string_view);
using Backward2d = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Optional&,
                                                      c10::string_view, c10::SymInt, c10::SymInt, c10::string_view,
                                                      std::array<bool, 3>);

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

at::ScalarType weight_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

struct Case {
  int64_t batch = 2, length = 19, channels = 12, taps = 4;
  at::ScalarType type = at::kFloat;
  bool runs = false, initial = true, bias = true;
  const char* activation = "silu";
};

std::string name(const Case& c) {
  std::ostringstream text;
  text << "B" << c.batch << " L" << c.length << " D" << c.channels << " W" << c.taps << " " << c.type
       << (c.runs ? " runs" : "") << (c.initial ? " initial" : "") << (c.bias ? " bias " : " ") << c.activation;
  return text.str();
}

struct Inputs {
  Tensor x, weight, dy, dfinal;
  Optional bias, initial, seq;
  const char* activation;

  explicit Inputs(const Case& c) : activation(c.activation) {
    const auto random = [&](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).to(c.type); };
    x = random({c.batch, c.length, c.channels});
    weight = random({c.channels, c.taps}).to(weight_type(c.type));
    dy = random(x.sizes());
    dfinal = random({c.batch, c.taps - 1, c.channels});
    if (c.bias) bias = random({c.channels});
    if (c.initial) initial = random(dfinal.sizes());
    if (c.runs) seq = random_runs(c.batch, c.length);
  }
  std::vector<Tensor> gradients(const std::array<bool, 4>& wanted) const {
    const auto [dx, dweight, dbias, dinitial] = run_kernel<Backward>(
        "vlmamba::causal_conv1d_backward", dy, Optional(dfinal), x, weight, bias, initial, seq, activation, wanted);
    return {dx, dweight, dbias, dinitial};
  }
  std::vector<Tensor> on_device() const {
    const auto [y, last] = run_kernel<Forward>("vlmamba::causal_conv1d", x, weight, bias, initial, seq, activation);
    const auto g = gradients({true, true, true, true});
    return {y, last, g[0], g[1], g[2], g[3]};
  }
};

void expect_equal_to_reference(const Case& c) {
  SCOPED_TRACE(name(c));
  const Inputs in(c);
  const auto actual = in.on_device();
  const Tensor x = leaf(in.x), weight = leaf(in.weight);
  const Optional bias = leaf(in.bias), initial = leaf(in.initial);
  const auto [y, last] = ops::reference::causal_conv1d(x, weight, bias, initial, in.seq, c.activation);
  const double tolerance = test::tolerance(c.type);
  EXPECT_EQ(actual[0].scalar_type(), c.type);
  expect_close(actual[0], y, tolerance, "y");
  EXPECT_TRUE(at::equal(actual[1], last.to(c.type))) << "final_state";

  std::vector<Tensor> leaves{x, weight};
  if (bias) leaves.push_back(*bias);
  if (initial) leaves.push_back(*initial);
  const auto wanted = gradients_of({y, last}, leaves, {in.dy, in.dfinal});
  expect_close(actual[2], wanted[0], 2 * tolerance, "dx", 4);
  const double sums = test::tolerance(weight_type(c.type));
  expect_close(actual[3], wanted[1], sums, "dweight", scale_of(wanted[1]));
  if (bias) expect_close(actual[4], wanted[2], tolerance, "dbias", scale_of(wanted[2]));
  if (initial) expect_close(actual[5], wanted[bias ? 3 : 2], 2 * tolerance, "dinitial_state", 4);
}

using ConvKernel = KernelTest;

TEST_F(ConvKernel, EqualsTheReferenceForEveryTypeAndWidth) {
  for (const auto type : kTypes)
    for (const int64_t taps : {1, 2, 3, 4, 5, 9})
      for (const bool runs : {false, true})
        expect_equal_to_reference({3, 21, 12, taps, type, runs, runs, true, runs ? "silu" : "none"});
}

TEST_F(ConvKernel, EqualsTheReferenceForHardLengths) {
  for (const int64_t taps : {3, 4})
    for (const int64_t length : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31})
      for (const bool runs : {false, true})
        for (const bool initial : {false, true})
          expect_equal_to_reference({3, length, 4, taps, at::kFloat, runs, initial});
}

TEST_F(ConvKernel, EqualsTheReferenceForAnyNumberOfChannels) {
  for (const int64_t channels : {1, 7, 8, 33, 100})
    for (const auto type : {at::kFloat, at::kBFloat16})
      expect_equal_to_reference({2, 11, channels, 4, type, true, true, false});
}

TEST_F(ConvKernel, EqualsTheReferenceHoweverTheDeviceSplitsTheWork) {
  for (const int multiprocessors : {1, 1000}) {
    set_multiprocessors(multiprocessors);
    expect_equal_to_reference({2, 300, 4, 4, at::kFloat, true});
    expect_equal_to_reference({40, 20, 260, 2, at::kFloat, false});
  }
}

TEST_F(ConvKernel, ComputesTheGradientsThatAreWanted) {
  for (const int64_t taps : {3, 4}) {
    const Inputs in(Case{2, 19, 12, taps});
    expect_only_wanted<4>([&](const auto& wanted) { return in.gradients(wanted); });
  }
}

TEST_F(ConvKernel, EmptyBatch) { expect_equal_to_reference({0, 5, 4}); }

TEST_F(ConvKernel, TakesWeightsOfTheInputsType) {
  Inputs in(Case{2, 9, 8, 4, at::kBFloat16});
  in.weight = in.weight.to(at::kBFloat16);
  const auto narrow = in.on_device();
  EXPECT_EQ(narrow[3].scalar_type(), at::kBFloat16);
  in.weight = in.weight.to(at::kFloat);
  const auto wide = in.on_device();
  EXPECT_TRUE(at::equal(narrow[0], wide[0]));
  EXPECT_TRUE(at::equal(narrow[3], wide[3].to(at::kBFloat16)));
}

TEST_F(ConvKernel, TakesAnyStridesAndAlignment) {
  for (const int64_t taps : {3, 4}) {
    Inputs in(Case{2, 9, 8, taps});
    const auto plain = in.on_device();
    const auto shift = [](const Tensor& tensor) {  // the same numbers, four bytes past an aligned address
      return at::empty({tensor.numel() + 1}, tensor.options()).slice(0, 1).copy_(tensor.flatten()).view(tensor.sizes());
    };
    in.x = shift(in.x);
    in.dy = in.dy.transpose(1, 2).contiguous().transpose(1, 2);
    in.initial = shift(*in.initial);
    const auto odd = in.on_device();
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], odd[i])) << taps << " taps, tensor " << i;
  }
}

TEST_F(ConvKernel, RunsAndThreadOrdersAgreeToTheBit) {
  set_multiprocessors(1000);
  for (const int64_t taps : {3, 4}) {
    const Inputs in(Case{3, 40, 8, taps, at::kFloat, true});
    same_in_every_order([&] { return in.on_device(); });
  }
}

TEST_F(ConvKernel, NotANumberStaysInItsChannelAndRun) {
  for (const int64_t taps : {3, 4}) {
    Inputs in(Case{3, 21, 8, taps, at::kFloat, true});
    const auto clean = in.on_device();
    const int64_t start = 12;  // of a run of its own in row 1, and of padding everywhere
    in.seq->select(0, 1).slice(0, start, start + 3).fill_(77);
    const auto before = in.on_device();
    for (Tensor* tensor : {&in.x, &in.dy}) {
      tensor->masked_fill_(in.seq->lt(0).unsqueeze(-1), NAN);
      tensor->select(0, 1).slice(0, start, start + 3).select(1, 5).fill_(NAN);
    }
    const auto after = in.on_device();
    for (const size_t i : {0, 2}) {
      Tensor wanted = before[i].clone(), got = after[i].clone();
      EXPECT_TRUE(got.select(0, 1).slice(0, start, start + 3).select(1, 5).isnan().any().item<bool>());
      for (Tensor* tensor : {&wanted, &got}) tensor->select(0, 1).slice(0, start, start + 3).select(1, 5).zero_();
      EXPECT_TRUE(at::equal(wanted, got)) << taps << " taps, tensor " << i;
    }
    for (const size_t i : {3, 4}) EXPECT_EQ(after[i].isnan().sum().item<int64_t>(), i == 3 ? taps : 1);
  }
}

struct Map {
  int64_t height, width;
};

void expect_2d_equal_to_reference(const char* scan, Map map, int64_t channels, int64_t taps, at::ScalarType type,
                                  bool own_weights, bool own_bias) {
  std::ostringstream text;
  text << scan << " " << map.height << "x" << map.width << " D" << channels << " W" << taps << " " << type
       << own_weights;
  SCOPED_TRACE(text.str());
  const int64_t K = std::string(scan) == "forward" ? 1
                    : std::string(scan) == "cross" ? 4
                                                   : 2,
                L = map.height * map.width;
  const auto random = [&](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).to(type); };
  const Tensor x = random({2, L, channels}), dy = random({2, L, K, channels});
  const Tensor weight = (own_weights ? random({K, channels, taps}) : random({channels, taps})).to(weight_type(type));
  const Optional bias = own_bias ? random({K, channels}) : random({channels});
  const c10::SymInt height(map.height), width(map.width);
  const auto run = [&]() -> std::vector<Tensor> {
    const Tensor y = run_kernel<Forward2d>("vlmamba::causal_conv1d_2d", x, weight, bias, scan, height, width, "silu");
    const auto [dx, dweight, dbias] = run_kernel<Backward2d>("vlmamba::causal_conv1d_2d_backward", dy, x, weight, bias,
                                                             scan, height, width, "silu", std::array{true, true, true});
    return {y, dx, dweight, dbias};
  };
  const auto actual = same_in_every_order(run);
  const std::vector<Tensor> leaves{leaf(x), leaf(weight), leaf(*bias)};
  const Tensor y =
      ops::reference::causal_conv1d_2d(leaves[0], leaves[1], leaves[2], scan, map.height, map.width, "silu");
  const auto wanted = gradients_of({y}, leaves, {dy});
  const double tolerance = test::tolerance(type);
  expect_close(actual[0], y, tolerance, "y");
  expect_close(actual[1], wanted[0], 2 * tolerance, "dx", 4);
  expect_close(actual[2], wanted[1], test::tolerance(weight_type(type)), "dweight", scale_of(wanted[1]));
  expect_close(actual[3], wanted[2], tolerance, "dbias", scale_of(wanted[2]));
}

TEST_F(ConvKernel, AlongEveryDirectionEqualsTheReference) {
  set_multiprocessors(1000);
  for (const char* scan : {"forward", "bidirectional", "cross"})
    for (const Map map : {Map{5, 7}, Map{1, 9}, Map{9, 1}, Map{1, 1}, Map{4, 4}})
      for (const int64_t taps : {2, 4})
        for (const bool own : {false, true}) expect_2d_equal_to_reference(scan, map, 4, taps, at::kFloat, own, !own);
  for (const auto type : {at::kBFloat16, at::kHalf, at::kDouble})
    for (const int64_t channels : {3, 8}) expect_2d_equal_to_reference("cross", {3, 5}, channels, 4, type, true, true);
}

}  // namespace
}  // namespace vlmamba::test
