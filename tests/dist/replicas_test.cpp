#include "vlmamba/dist/replicas.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vlmamba/core/error.h"
#include "vlmamba/dist/thread_ranks.h"

namespace vlmamba {
namespace {

using at::Tensor;
using testing::HasSubstr;

std::vector<std::pair<std::string, Tensor>> replicas() {
  const Tensor values = at::sin(at::arange(320, at::kDouble));
  return {{"connector.weight", values.slice(0, 0, 165).view({33, 5}).to(at::kFloat)},
          {"connector.bias", values.slice(0, 0, 3).to(at::kBFloat16)},
          {"language_model.weight", values.view({5, 64}).clone()}};
}

TEST(Replicas, ThatAreTheSamePass) {
  run_ranks(3, [](Comm& comm) {
    compare_replicas(comm, replicas(), "step 1");
    compare_replicas(comm, "config", "{}", "start");
  });
}

// One bit, anywhere: every rank names the parameter and the rank.
TEST(Replicas, AFlippedBitIsFoundAndNamedByAll) {
  for (const size_t which : {0u, 1u, 2u})
    for (const double place : {0.0, 0.37, 1.0}) {
      std::vector<std::string> messages(3);
      run_ranks(3, [&](Comm& comm) {
        auto tensors = replicas();
        Tensor& tensor = tensors[which].second;
        if (comm.rank() == 1) {
          auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
          bytes[static_cast<size_t>(place * static_cast<double>(tensor.nbytes() - 1))] ^= 1;
        }
        try {
          compare_replicas(comm, tensors, "stage align, step 4");
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ExitCode::kPeerLost);
          messages[static_cast<size_t>(comm.rank())] = error.what();
        }
      });
      for (const auto& message : messages)
        EXPECT_THAT(message, HasSubstr("[stage align, step 4] " + replicas()[which].first +
                                       ": expected the same on all ranks, got something else on rank 1;"));
    }
}

TEST(Replicas, OfTwoRanksTheFirstIsBelieved) {
  run_ranks(2, [](Comm& comm) {
    try {
      compare_replicas(comm, "config", comm.rank() == 0 ? "a" : "b", "start");
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("[start] config: expected the same on all ranks, got something else on rank 1"));
    }
  });
}

}  // namespace
}  // namespace vlmamba
