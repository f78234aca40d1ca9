#include "tests/dist/processes.h"

#include <gmock/gmock.h>

namespace vlmamba {
namespace {

using test::Processes;
using testing::HasSubstr;

std::vector<std::string> command(const std::string& scenario, const std::string& start = "60",
                                 const std::string& silent = "30", const std::string& stuck = "600") {
  return {RANK_PROGRAM, scenario, start, silent, stuck};
}

TEST(Processes, AgreeOnEveryCollective) {
  for (const int size : {2, 3}) {
    Processes ranks(size, command("collectives"));
    for (int rank = 0; rank < size; ++rank) {
      const auto end = ranks.end(rank);
      EXPECT_EQ(end.code, 0) << end.err;
    }
  }
}

TEST(Processes, AKilledRankIsNamedByAllOthers) {
  for (const int killed : {0, 2}) {
    SCOPED_TRACE(killed);
    Processes ranks(3, command("sum"));
    for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(ranks.says(rank, "going"));
    ranks.signal(killed, SIGKILL);
    EXPECT_EQ(ranks.end(killed).code, -SIGKILL);
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == killed) continue;
      const auto end = ranks.end(rank, 10);
      EXPECT_EQ(end.code, 7);
      EXPECT_THAT(end.err, HasSubstr("[rank " + std::to_string(killed) + "] this rank is lost"));
    }
  }
}

TEST(Processes, AStoppedRankIsNamedByAllOthers) {
  for (const int stopped : {0, 2}) {
    SCOPED_TRACE(stopped);
    Processes ranks(3, command("sum", "60", "2"));
    for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(ranks.says(rank, "going"));
    ranks.signal(stopped, SIGSTOP);
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == stopped) continue;
      const auto end = ranks.end(rank, 10);
      EXPECT_EQ(end.code, 7);
      EXPECT_THAT(end.err, HasSubstr("[rank " + std::to_string(stopped) +
                                     "] this rank is lost: its process has given "
                                     "no sign of life for 2 s"));
    }
  }
}

TEST(Processes, ARankThatOthersWaitForIsNamedAndEnded) {
  Processes ranks(2, command("stuck", "60", "30", "2"));
  const auto waiting = ranks.end(0, 20), stuck = ranks.end(1, 20);
  EXPECT_EQ(waiting.code, 7);
  EXPECT_THAT(waiting.err, HasSubstr("[rank 1] this rank is lost: the others have waited for it for 2 s: stuck before "
                                     "collective 2"));
  EXPECT_EQ(stuck.code, 7);
  EXPECT_THAT(stuck.err, HasSubstr("[rank 1] the others have given this rank up"));
}

TEST(Processes, ARankThatIsBusyElsewhereEndsWhenAnotherIsLost) {
  Processes ranks(2, command("busy"));
  ASSERT_TRUE(ranks.says(0, "going") && ranks.says(1, "going"));
  ranks.signal(1, SIGKILL);
  const auto end = ranks.end(0, 10);
  EXPECT_EQ(end.code, 7);
  EXPECT_THAT(end.err, HasSubstr("[rank 1] this rank is lost"));
}

TEST(Processes, WhyARankGivesUpIsToldToAll) {
  Processes ranks(3, command("failing"));
  for (int rank = 0; rank < 3; ++rank) {
    const auto end = ranks.end(rank, 60);
    EXPECT_EQ(end.code, rank == 2 ? 3 : 7);
    EXPECT_THAT(end.err, HasSubstr("[record r7] expected a picture, got none"));
    if (rank == 2) continue;
    EXPECT_THAT(end.err, HasSubstr("[rank 2] this rank is lost: it gave up"));
  }
}

TEST(Processes, ARankThatNeverComesIsNamed) {
  Processes ranks(3, command("absent", "2"));
  EXPECT_EQ(ranks.end(2).code, 0);
  const auto first = ranks.end(0, 20);
  EXPECT_EQ(first.code, 7);
  EXPECT_THAT(first.err, HasSubstr("expected 3 of them within 2 s, got none of rank 2"));
  EXPECT_EQ(ranks.end(1, 20).code, 7);
}

}  // namespace
}  // namespace vlmamba
