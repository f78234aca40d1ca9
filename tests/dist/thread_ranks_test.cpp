#include "vlmamba/dist/thread_ranks.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using testing::HasSubstr;

TEST(ThreadRanks, GiveEachRankItsPart) {
  run_ranks(3, [](Comm& comm) {
    const auto rank = comm.rank();
    const at::Tensor sum = at::full({2}, rank + 1.0), scattered = at::arange(6, at::kDouble) * (rank + 1),
                     gathered = at::zeros({3}), copy = at::full({1}, rank);
    const auto running = comm.start_sum(sum);
    comm.start_sum_scattered(scattered)->wait();
    running->wait();
    EXPECT_TRUE(sum.eq(6).all().item<bool>());
    EXPECT_TRUE(scattered.slice(0, 2 * rank, 2 * rank + 2).equal(at::arange(2 * rank, 2 * rank + 2, at::kDouble) * 6));
    gathered[rank].fill_(rank);
    comm.start_gather(gathered)->wait();
    EXPECT_TRUE(gathered.equal(at::arange(3, at::kFloat)));
    comm.broadcast(copy, 2);
    EXPECT_EQ(copy.item<int64_t>(), 2);
    EXPECT_EQ(comm.gather(std::string(static_cast<size_t>(rank), 'x')), (std::vector<std::string>{"", "x", "xx"}));
    EXPECT_EQ(comm.broadcast(std::to_string(rank), 1), "1");
    EXPECT_EQ(comm.sum({1, static_cast<double>(rank)}), (std::vector<double>{3, 3}));
    EXPECT_EQ(comm.max({static_cast<double>(-rank)}), (std::vector<double>{0}));
  });
}

// A sum that depends on the order of its terms comes out alike on all ranks, every time.
TEST(ThreadRanks, SumInTheOrderOfTheRanks) {
  const std::vector<float> values{1e8f, 1, -1e8f, 1};
  for (int repeat = 0; repeat < 20; ++repeat)
    run_ranks(4, [&](Comm& comm) {
      const at::Tensor tensor = at::full({1}, values[static_cast<size_t>(comm.rank())]);
      comm.sum(tensor);
      EXPECT_EQ(tensor.item<float>(), 1);
    });
}

TEST(ThreadRanks, ARankThatThrowsEndsTheOthers) {
  std::vector<std::string> messages(3);
  try {
    run_ranks(3, [&](Comm& comm) {
      if (comm.rank() == 1) throw Error(ExitCode::kData, "record r7", "expected a picture, got none");
      try {
        comm.barrier();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kPeerLost);
        messages[static_cast<size_t>(comm.rank())] = error.what();
      }
    });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
  }
  for (const size_t rank : {0u, 2u}) EXPECT_THAT(messages[rank], HasSubstr("[rank 1] this rank is lost: [record r7]"));
}

TEST(Alone, CostsNothingAndReturnsWhatItGets) {
  const auto comm = alone();
  const at::Tensor tensor = at::ones({2});
  comm->sum(tensor);
  EXPECT_TRUE(tensor.eq(1).all().item<bool>());
  EXPECT_EQ(comm->gather(std::string("a")), std::vector<std::string>{"a"});
  EXPECT_EQ(comm->broadcast("b", 0), "b");
}

}  // namespace
}  // namespace vlmamba
