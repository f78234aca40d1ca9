#include "tests/emulated_cuda/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/emulated_cuda/fibre.h"
#include "tests/emulated_cuda/planted_kernels.h"

// The emulation against mistakes planted in kernels: each must be seen, and the same kernel without it must pass.

namespace vlmamba::cuda::planted {
namespace {

using emulation::KernelError;
using Launcher = cudaError_t (*)(const float*, float*, int, Mistake, cudaStream_t);

std::vector<float> numbers(int count) {
  std::vector<float> x(static_cast<size_t>(count));
  std::iota(x.begin(), x.end(), 1.f);
  return x;
}

std::vector<float> run(Launcher launcher, Mistake mistake, uint64_t order) {
  constexpr int kBlocks = 3;
  const auto x = numbers(kBlocks * kThreads);
  std::vector<float> y(x.size());
  emulation::set_thread_order(order);
  EXPECT_EQ(launcher(x.data(), y.data(), kBlocks, mistake, {}), cudaSuccess);
  emulation::set_thread_order(0);
  return y;
}

// What comes out under several thread orders, as text: NaN differs from itself.
std::set<std::string> results(Launcher launcher, Mistake mistake) {
  std::set<std::string> all;
  for (uint64_t order = 0; order < 6; ++order) all.insert(testing::PrintToString(run(launcher, mistake, order)));
  return all;
}

std::string error_of(Launcher launcher, Mistake mistake) {
  try {
    run(launcher, mistake, 3);
  } catch (const KernelError& error) {
    return error.what();
  }
  return "none";
}

TEST(EmulatedCuda, RunsBarriersShufflesAndAsynchronousCopies) {
  const auto x = numbers(3 * kThreads), y = run(launch_mirror, Mistake::kNone, 2);
  for (int i = 0; i < kThreads; ++i)
    EXPECT_EQ(y[static_cast<size_t>(kThreads + i)],
              x[static_cast<size_t>(kThreads + i)] + x[static_cast<size_t>(2 * kThreads - 1 - i)]);
  const auto sums = run(launch_sum, Mistake::kNone, 2);
  EXPECT_EQ(sums[1], std::accumulate(x.begin() + kThreads, x.begin() + 2 * kThreads, 0.f));
  std::vector<float> copied(kThreads);
  EXPECT_EQ(launch_async_copy(x.data(), copied.data(), kThreads, Mistake::kNone, {}), cudaSuccess);
  EXPECT_TRUE(std::equal(copied.begin(), copied.end(), x.begin()));
}

TEST(EmulatedCuda, ThreadOrdersExposeAMissingBarrier) {
  for (const Launcher launcher : {launch_mirror, launch_warp_mirror, launch_sum})
    EXPECT_EQ(results(launcher, Mistake::kNone).size(), 1u);
  EXPECT_GT(results(launch_mirror, Mistake::kMissingBarrier).size(), 1u);
  EXPECT_GT(results(launch_warp_mirror, Mistake::kMissingWarpBarrier).size(), 1u);
}

TEST(EmulatedCuda, ACopyThatWasNotWaitedForIsNotThere) {
  const auto x = numbers(kThreads);
  std::vector<float> y(x.size());
  EXPECT_EQ(launch_async_copy(x.data(), y.data(), kThreads, Mistake::kMissingWait, {}), cudaSuccess);
  EXPECT_NE(x, y);
}

TEST(EmulatedCuda, NamesWhereThreadsDiverge) {
  using testing::ContainsRegex;
  EXPECT_THAT(error_of(launch_mirror, Mistake::kBarrierForSome),
              ContainsRegex("diverge: thread 0 waits in __syncthreads at .*planted_kernels.cu:[0-9]+, thread 32"));
  EXPECT_THAT(error_of(launch_mirror, Mistake::kExitBeforeBarrier),
              ContainsRegex("diverge: thread 0 waits in __syncthreads at .*, thread 32 has finished"));
  EXPECT_THAT(error_of(launch_sum, Mistake::kShuffleForSome),
              ContainsRegex("diverge: thread 0 waits in __shfl_xor_sync at .*, thread 16 waits in __syncthreads"));
}

TEST(EmulatedCuda, GoesOnAfterAKernelThatFailed) {
  EXPECT_NE(error_of(launch_mirror, Mistake::kBarrierForSome), "none");
  EXPECT_EQ(results(launch_mirror, Mistake::kNone).size(), 1u);
}

TEST(EmulatedCuda, RefusesMisalignedAsynchronousCopies) {
  const auto x = numbers(kThreads + 1);
  std::vector<float> y(x.size());
  EXPECT_THROW(launch_async_copy(x.data(), y.data(), kThreads, Mistake::kMisalignedVector, {}), KernelError);
}

TEST(EmulatedCuda, RefusesLaunchesThatNoDeviceTakes) {
  const auto copy = [](unsigned blocks, unsigned threads, size_t shared) {
    return emulation::run({blocks, 1, 1}, {threads, 1, 1}, shared, [] {});
  };
  EXPECT_TRUE(copy(2, 1024, 227 << 10));
  EXPECT_FALSE(copy(0, 32, 0));
  EXPECT_FALSE(copy(1, 1025, 0));
  EXPECT_FALSE(copy(1, 32, 228 << 10));
  EXPECT_FALSE(emulation::run({1, 65536, 1}, {32, 1, 1}, 0, [] {}));
}

// An off-by-one at the edge of a chunk changes numbers: the comparisons with the reference see it where a length of
// more than a chunk is among the shapes.
TEST(EmulatedCuda, ComparisonSeesAnOffByOneAtAChunkEdge) {
  const auto x = numbers(kThreads + 1);
  std::vector<float> y(x.size());
  EXPECT_EQ(launch_copy(x.data(), y.data(), kThreads + 1, Mistake::kNone, {}), cudaSuccess);
  EXPECT_EQ(x, y);
  y.assign(x.size(), 0);
  EXPECT_EQ(launch_copy(x.data(), y.data(), kThreads + 1, Mistake::kChunkEdge, {}), cudaSuccess);
  EXPECT_NE(x, y);
}

TEST(EmulatedCudaDeathTest, AddressSanitizerSeesAccessesOutOfBounds) {
  if (!emulation::Fibre::sanitized())
    GTEST_SKIP() << "the kernels of this binary are not sanitized; the other one's are";
  const auto x = numbers(3 * kThreads - 1);
  std::vector<float> y(x.size());
  EXPECT_DEATH(launch_mirror(x.data(), y.data(), 2, Mistake::kPastSharedMemory, {}), "heap-buffer-overflow");
  EXPECT_DEATH(launch_copy(x.data(), y.data(), 3 * kThreads - 1, Mistake::kPastGlobalMemory, {}),
               "heap-buffer-overflow");
}

}  // namespace
}  // namespace vlmamba::cuda::planted
