#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/ops/finite_difference.h"
#include "vlmamba/nn/ssd_scan.h"

namespace vlmamba {
namespace {

using at::Tensor;

double largest(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

struct Inputs {
  Tensor x, dt, A, B, C, D, state;
};

Inputs inputs(int64_t batch, int64_t length) {
  const auto random = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
  return {random({batch, length, 4, 3}), at::softplus(random({batch, length, 4})),
          -at::exp(random({4})),         random({batch, length, 2, 5}),
          random({batch, length, 2, 5}), random({4}),
          random({batch, 4, 3, 5})};
}

// One position after the other: the definition.
std::tuple<Tensor, Tensor> one_by_one(const Inputs& in, const Tensor& seq_idx) {
  Tensor y = at::zeros_like(in.x), states = in.state.clone();
  for (int64_t b = 0; b < in.x.size(0); ++b) {
    Tensor state = in.state[b].clone();
    bool begun = false;
    for (int64_t t = 0; t < in.x.size(1); ++t) {
      const int id = seq_idx.defined() ? seq_idx[b][t].item<int>() : 0;
      if (id < 0) continue;
      const int before = t > 0 && seq_idx.defined() ? seq_idx[b][t - 1].item<int>() : id;
      if (begun && before != id) state = at::zeros_like(state);
      begun = true;
      for (int64_t h = 0; h < 4; ++h) {
        const Tensor B = in.B[b][t][h / 2], C = in.C[b][t][h / 2], step = in.dt[b][t][h], x = in.x[b][t][h];
        state[h].copy_(state[h] * at::exp(step * in.A[h]) + at::outer(step * x, B));
        y[b][t][h].copy_(state[h].matmul(C) + in.D[h] * x);
      }
    }
    states[b].copy_(state);
  }
  return {y, states};
}

const Tensor kRuns = at::tensor({-1, 3,  3,  3,  0,  0,  -1, -1, 0,  0,  0,  0,   //
                                 0,  0,  0,  0,  0,  1,  1,  1,  2,  2,  -1, -1,  //
                                 -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
                                at::kInt)
                         .view({3, 12});

TEST(SsdScan, IsTheRecurrenceForEveryChunk) {
  at::manual_seed(1);
  const Inputs in = inputs(3, 12);
  for (const Tensor& runs : {Tensor(), kRuns}) {
    const auto [y, state] = one_by_one(in, runs);
    for (const int64_t chunk : {1, 2, 5, 12, 64}) {
      const auto [got, got_state] = nn::ssd_scan(in.x, in.dt, in.A, in.B, in.C, in.D, in.state, runs, chunk);
      const Tensor real = runs.defined() ? runs.ge(0).unsqueeze(-1).unsqueeze(-1) : at::ones({1, 1, 1, 1}, at::kBool);
      EXPECT_LT(largest(got.masked_fill(~real, 0), y), 1e-11) << chunk;
      EXPECT_LT(largest(got_state, state), 1e-11) << chunk;
    }
  }
}

TEST(SsdScan, NeverReadsPadding) {
  at::manual_seed(2);
  const Inputs in = inputs(3, 12);
  const auto [y, state] = nn::ssd_scan(in.x, in.dt, in.A, in.B, in.C, in.D, in.state, kRuns, 5);
  const Tensor padding = kRuns.lt(0);
  const auto spoil = [&](Tensor tensor) {
    tensor.index_put_({padding}, at::full({}, std::nan(""), at::kDouble));
    return tensor;
  };
  const auto [again, state_again] = nn::ssd_scan(spoil(in.x.clone()), spoil(in.dt.clone()), in.A, spoil(in.B.clone()),
                                                 spoil(in.C.clone()), in.D, in.state, kRuns, 5);
  EXPECT_TRUE(at::equal(again, y));
  EXPECT_TRUE(at::equal(state_again, state));
}

TEST(SsdScan, HasTheRightGradients) {
  at::manual_seed(3);
  const Inputs in = inputs(2, 5);
  const Tensor runs = kRuns.slice(0, 0, 2).slice(1, 2, 7);
  test::expect_gradients_match(
      [&](const test::Tensors& x) -> test::Tensors {
        auto [y, state] = nn::ssd_scan(x[0], x[1], x[2], x[3], x[4], x[5], x[6], runs, 2);
        return {y, state};
      },
      {in.x, in.dt, in.A, in.B, in.C, in.D, in.state});
}

TEST(SsdScan, AnEmptySequenceLeavesTheState) {
  const Inputs in = inputs(2, 0);
  const auto [y, state] = nn::ssd_scan(in.x, in.dt, in.A, in.B, in.C, in.D, in.state);
  EXPECT_EQ(y.numel(), 0);
  EXPECT_TRUE(at::equal(state, in.state));
}

}  // namespace
}  // namespace vlmamba
