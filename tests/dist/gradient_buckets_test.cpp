#include "vlmamba/dist/gradient_buckets.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <mutex>

#include "vlmamba/dist/thread_ranks.h"

namespace vlmamba {
namespace {

using at::Tensor;
using torch::autograd::backward;

// Four parameters, of which a loss reaches those that `mask` names.
std::vector<Tensor> make_parameters() {
  const std::vector<std::vector<int64_t>> shapes{{3, 5}, {5}, {5, 200}, {200}};
  std::vector<Tensor> parameters;
  for (const auto& shape : shapes) {
    const Tensor values = at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) + parameters.size());
    parameters.push_back(values.view(shape).clone().set_requires_grad(true));
  }
  return parameters;
}

Tensor loss_of(const std::vector<Tensor>& p, int64_t seed, bool reaches_first) {
  const Tensor x = at::cos(at::arange(12, at::kDouble) * seed).view({4, 3});
  const Tensor hidden = reaches_first ? at::tanh(x.mm(p[0]) + p[1]) : at::tanh(at::ones({4, 5}, at::kDouble) * seed);
  return (hidden.mm(p[2]) + p[3]).square().sum();
}

struct Micro {
  int64_t seed;
  bool reaches_first;
};

// Whatever the buckets and the ranks, every gradient is that of the sum of all micro-batches.
TEST(GradientBuckets, SumWhatAllRanksHave) {
  const std::vector<Micro> micros{{1, true}, {2, false}, {3, true}, {4, true}, {5, false}, {6, false}};
  const auto whole = make_parameters();
  for (const auto& micro : micros) backward({loss_of(whole, micro.seed, micro.reaches_first)}, {});
  for (const int64_t size : {1, 2, 3})
    for (const int64_t bucket_bytes : {1, 2000, 1 << 20})
      for (const bool scattered : {false, true})
        run_ranks(size, [&](Comm& comm) {
          const auto own = make_parameters();
          GradientBuckets buckets(comm, own, bucket_bytes, scattered);
          EXPECT_EQ(buckets.num_buckets(), bucket_bytes == 1 ? 4u : bucket_bytes == 2000 ? 3u : 1u);
          const auto accumulated = static_cast<int64_t>(micros.size()) / size;
          for (int repeat = 0; repeat < 2; ++repeat) {  // nothing is left from the step before
            buckets.zero();
            for (int64_t i = 0; i < accumulated; ++i) {
              if (i + 1 == accumulated) buckets.sum_in_next_backward();
              const auto& micro = micros[static_cast<size_t>(i * size + comm.rank())];
              backward({loss_of(own, micro.seed, micro.reaches_first)}, {});
            }
            buckets.finish();
            for (size_t i = 0; i < own.size(); ++i) {
              const auto [begin, end] = buckets.owned(i);
              const Tensor got = own[i].grad().view(-1).slice(0, begin, end),
                           expected = whole[i].grad().view(-1).slice(0, begin, end);
              EXPECT_TRUE(at::allclose(got, expected, 1e-12, 1e-12)) << i;
            }
          }
        });
}

TEST(GradientBuckets, AGradientThatNoRankHasIsZero) {
  run_ranks(2, [](Comm& comm) {
    const auto own = make_parameters();
    GradientBuckets buckets(comm, own, 1, false);
    buckets.sum_in_next_backward();
    backward({loss_of(own, 1, false)}, {});
    buckets.finish();
    EXPECT_TRUE(own[0].grad().eq(0).all().item<bool>());
    EXPECT_TRUE(own[2].grad().ne(0).any().item<bool>());
  });
}

// Every element belongs to exactly one rank, also where shares end within a parameter.
TEST(GradientBuckets, SharesCoverEveryParameterOnce) {
  for (const int64_t size : {2, 3, 7}) {
    std::vector<Tensor> owners;
    std::mutex mutex;
    run_ranks(size, [&](Comm& comm) {
      const auto own = make_parameters();
      const GradientBuckets buckets(comm, own, 4000, true);
      const std::lock_guard lock(mutex);
      for (size_t i = 0; i < own.size(); ++i) {
        if (owners.size() <= i) owners.push_back(at::zeros({own[i].numel()}));
        const auto [begin, end] = buckets.owned(i);
        owners[i].slice(0, begin, end).add_(1);
      }
    });
    for (const auto& owner : owners) EXPECT_TRUE(owner.eq(1).all().item<bool>()) << size;
  }
}

TEST(GradientBuckets, StepsOfEachRanksShareReachAllRanks) {
  run_ranks(3, [](Comm& comm) {
    const auto own = make_parameters();
    GradientBuckets buckets(comm, own, 4000, true);
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < own.size(); ++i) {
      const auto [begin, end] = buckets.owned(i);
      const Tensor share = own[i].view(-1).slice(0, begin, end);
      share.copy_(at::arange(begin, end, at::kDouble));
    }
    buckets.share_parameters();
    for (const auto& parameter : own) EXPECT_TRUE(parameter.view(-1).equal(at::arange(parameter.numel(), at::kDouble)));
  });
}

// Counts what is under way, and lets nobody wait.
class CountingComm final : public Comm {
 public:
  CountingComm() : Comm(0, 2, 0) {}
  std::unique_ptr<Collective> start_sum(const Tensor& tensor) override {
    sizes.push_back(tensor.numel());
    return std::make_unique<Done>();
  }
  std::unique_ptr<Collective> start_sum_scattered(const Tensor& flat) override { return start_sum(flat); }
  std::unique_ptr<Collective> start_gather(const Tensor& flat) override { return start_sum(flat); }
  void broadcast(const Tensor&, int64_t) override {}
  void fail(const std::string&) noexcept override {}
  void leave() noexcept override {}
  std::vector<int64_t> sizes;

 private:
  struct Done final : Collective {
    void wait() override {}
  };
};

TEST(GradientBuckets, LeaveWhileTheBackwardRunsAndInTheSameOrderWhateverItReaches) {
  const auto order = [](bool reaches_first, size_t& sent_early) {
    CountingComm comm;
    const auto own = make_parameters();
    GradientBuckets buckets(comm, own, 1, false);
    buckets.sum_in_next_backward();
    const Tensor hidden = reaches_first ? own[0].sum(0) + own[1] : at::ones({5}, at::kDouble).set_requires_grad(true);
    hidden.register_hook([&](const Tensor&) { sent_early = comm.sizes.size(); });
    backward({(hidden.matmul(own[2]) + own[3]).sum()}, {});
    buckets.finish();
    return comm.sizes;
  };
  size_t early = 0;
  const auto all = order(true, early);
  EXPECT_GE(early, 1u);  // the last parameter's, when the backward has not come to the first
  EXPECT_EQ(all, (std::vector<int64_t>{256, 1024, 128, 128}));
  EXPECT_EQ(order(false, early), all);
}

}  // namespace
}  // namespace vlmamba
