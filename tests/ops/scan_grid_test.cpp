// The scans against fp64 on a seeded random grid of shapes, types, strides, runs and optional arguments: every output
// and every gradient, on every instruction set.

#include <random>

#include "tests/ops/scan_cases.h"
#include "tests/ops/tolerance.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::fp64;
using test::ScanCase;
using test::ScanShape;

class Draw {
 public:
  explicit Draw(unsigned seed) : generator_(seed) { at::manual_seed(seed); }
  template <typename T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[generator_() % choices.size()];
  }
  bool chance(unsigned percent) { return generator_() % 100 < percent; }

 private:
  std::mt19937 generator_;
};

// Runs of random lengths and padding between some of them.
Tensor random_runs(Draw& draw, int64_t rows, int64_t length) {
  Tensor ids = at::empty({rows, length}, at::kInt);
  for (int64_t b = 0; b < rows; ++b) {
    int id = 0;
    for (int64_t t = 0, left = 0; t < length; ++t, --left) {
      if (left == 0) {
        left = draw.one_of<int64_t>({1, 1, 2, 5, 16, 17, 40});
        id = draw.chance(25) ? -1 : static_cast<int>(t) + 1;
      }
      ids[b][t] = id;
    }
  }
  return ids;
}

std::string describe(const ScanCase& s) {
  std::ostringstream text;
  text << s.u.scalar_type() << " B, L, D " << s.u.sizes() << " N " << s.A.size(1) << " G " << s.B.size(2) << " D "
       << s.D.has_value() << " z " << s.z.has_value() << " bias " << s.bias.has_value() << " initial "
       << s.initial.has_value() << " seq_idx " << s.seq_idx.has_value() << " softplus " << s.softplus;
  return text.str();
}

void expect_right(const ScanCase& s, const std::function<Tensor(const Tensor&)>& strides) {
  const auto state = s.u.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor dy = strides(fp64(s.u.sizes()).to(s.u.scalar_type()));
  const Tensor dfinal = strides(fp64({s.u.size(0), s.u.size(2), s.A.size(1)}).to(state));
  const auto got = test::run(s.with(strides), dy, dfinal);
  const auto expected = test::run_reference(s, dy, dfinal);
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(test::error(got[i], expected[i]), 1) << (i == 0   ? "y"
                                                       : i == 1 ? "final_state"
                                                                : "gradient of input ")
                                                   << (i < 2 ? "" : std::to_string(i - 2)) << " of " << describe(s);
}

class ScanGrid : public test::OnEveryInstructionSet {};

TEST_P(ScanGrid, ValuesAndGradientsEqualThoseInFp64) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    Draw draw(seed);
    const auto length = draw.one_of<int64_t>({0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 48, 65, 100});
    const auto groups = draw.one_of<int64_t>({1, 1, 1, 2, 3});
    const auto channels = groups * draw.one_of<int64_t>({1, 7, 16, 33, 50});
    const auto states = draw.one_of<int64_t>({1, 2, 3, 4, 7, 8, 16, 16, 17, 32});
    ScanCase s({draw.one_of<int64_t>({0, 1, 2, 3}), length, channels, states, groups},
               draw.one_of({at::kDouble, at::kFloat, at::kFloat, at::kHalf, at::kBFloat16}));
    for (test::Optional* x : {&s.D, &s.z, &s.bias, &s.initial})
      if (draw.chance(40)) x->reset();
    s.softplus = draw.chance(70);
    if (!s.softplus) {  // states decay; growing ones leave fp32 before fp64
      s.delta = s.delta.abs() * 0.5;
      if (s.bias) s.bias = s.bias->abs();
    }
    if (draw.chance(40)) s.seq_idx = random_runs(draw, s.u.size(0), length);
    const bool strided = draw.chance(50);
    expect_right(s, [&](const Tensor& x) { return strided ? test::with_strides(x) : x; });
  }
}

TEST_P(ScanGrid, LargeAndOddShapesEqualFp64) {
  at::manual_seed(60);
  for (const auto& [rows, length, channels, states, groups] : {ScanShape{1, 1021, 3, 3, 1},
                                                               {1, 729, 20, 16, 2},
                                                               {2, 5, 2304, 16, 1},
                                                               {1, 40, 100, 128, 1},
                                                               {1, 34, 33, 64, 33},
                                                               {70, 2, 5, 8, 1}})
    expect_right(ScanCase({rows, length, channels, states, groups}, at::kFloat), [](const Tensor& x) { return x; });
}

// Rows that start at any byte of a 16-bit number: views of larger tensors.
TEST_P(ScanGrid, ViewsThatStartAnywhereAreReadInPlace) {
  at::manual_seed(61);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    ScanCase s({2, 20, 40, 8}, type);
    expect_right(s, [](const Tensor& x) {
      std::vector<int64_t> sizes = x.sizes().vec();
      sizes.back() += 5;
      const Tensor large = at::full(sizes, NAN, x.options());
      return large.slice(-1, 3, 3 + x.size(-1)).copy_(x);
    });
  }
}

std::vector<Tensor> run_2d(const decltype(&selective_scan_2d)& function, std::vector<Tensor> inputs, const Tensor& dy,
                           const char* scan, int64_t height, int64_t width, bool merge) {
  for (Tensor& x : inputs) x = x.detach().requires_grad_();
  const Tensor y = function(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], inputs[6], true, scan,
                            height, width, merge);
  std::vector<Tensor> results = torch::autograd::grad({y}, inputs, {dy});
  results.push_back(y.detach());
  return results;
}

TEST_P(ScanGrid, MapsEqualFp64) {
  unsigned seed = 100;
  for (const char* scan : {"forward", "bidirectional", "cross"})
    for (const bool merge : {true, false})
      for (const bool own_u : {true, false})
        for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
          Draw draw(seed++);
          const auto [height, width] =
              draw.one_of<std::pair<int64_t, int64_t>>({{1, 1}, {1, 9}, {9, 1}, {3, 5}, {6, 6}, {7, 11}});
          const int64_t L = height * width, K = scan[0] == 'f' ? 1 : scan[0] == 'b' ? 2 : 4;
          const auto G = draw.one_of<int64_t>({1, 2}), D = G * draw.one_of<int64_t>({1, 8, 33});
          const auto N = draw.one_of<int64_t>({1, 3, 8, 16});
          const auto small = type == at::kDouble ? at::kDouble : at::kFloat;
          const auto narrow = [type = type](const Tensor& x) { return x.to(type); };
          std::vector<Tensor> inputs{narrow(own_u ? fp64({2, L, K, D}) : fp64({2, L, D})),
                                     narrow(fp64({2, L, K, D})),
                                     (-at::rand({K, D, N}, at::kDouble) - 0.1).to(small),
                                     narrow(fp64({2, L, K, G, N})),
                                     narrow(fp64({2, L, K, G, N})),
                                     fp64({K, D}).to(small),
                                     fp64({K, D}).to(small)};
          const Tensor dy = narrow(merge ? fp64({2, L, D}) : fp64({2, L, K, D}));
          std::vector<Tensor> wide;
          for (const Tensor& x : inputs) wide.push_back(x.to(at::kDouble));
          const auto expected =
              run_2d(reference::selective_scan_2d, wide, dy.to(at::kDouble), scan, height, width, merge);
          if (draw.chance(50))
            for (Tensor& x : inputs) x = test::with_strides(x);
          const auto got = run_2d(selective_scan_2d, inputs, test::with_strides(dy), scan, height, width, merge);
          for (size_t i = 0; i < got.size(); ++i)
            EXPECT_LE(test::error(got[i], expected[i]), 1)
                << "tensor " << i << ", " << scan << " merge " << merge << " own u " << own_u << " " << type << " "
                << height << " x " << width << " D " << D << " G " << G << " N " << N;
        }
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, ScanGrid, test::kEveryInstructionSet, test::set_name);

}  // namespace
}  // namespace vlmamba::ops
