#include "vlmamba/dist/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

std::optional<Launch> read(const Variables& variables) {
  return read_launch([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string complaint(const Variables& variables) {
  try {
    read(variables);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "nothing";
}

const Variables kTorchrun{{"RANK", "3"},
                          {"WORLD_SIZE", "4"},
                          {"LOCAL_RANK", "1"},
                          {"MASTER_ADDR", "node01"},
                          {"MASTER_PORT", "29500"},
                          {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
const Variables kSlurm{{"SLURM_PROCID", "9"},  {"SLURM_STEP_NUM_TASKS", "16"}, {"SLURM_NTASKS", "16"},
                       {"SLURM_LOCALID", "1"}, {"SLURM_JOB_ID", "1234567"},    {"SLURM_STEP_NODELIST", "gpu[007-008]"}};
const Variables kOpenMpi{{"OMPI_COMM_WORLD_RANK", "1"},
                         {"OMPI_COMM_WORLD_SIZE", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                         {"MASTER_ADDR", "10.0.0.1"},
                         {"MASTER_PORT", "29501"}};

Variables with(Variables variables, const Variables& others) {
  for (const auto& [name, value] : others) variables[name] = value;
  return variables;
}

TEST(Launch, WithoutAnyVariableIsAlone) { EXPECT_FALSE(read({})); }

TEST(Launch, ReadsTorchrun) {
  const auto launch = read(kTorchrun);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, "torchrun");
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->size, 4);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->host, "node01");
  EXPECT_EQ(launch->port, 29500);
  EXPECT_TRUE(launch->has_store);
}

TEST(Launch, ReadsSlurmAndFindsTheFirstNode) {
  auto launch = read(kSlurm);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, "SLURM");
  EXPECT_EQ(launch->rank, 9);
  EXPECT_EQ(launch->size, 16);
  EXPECT_EQ(launch->host, "gpu007");
  EXPECT_EQ(launch->port, 20000 + 1234567 % 10000);
  EXPECT_FALSE(launch->has_store);
  for (const auto& [list, first] : std::map<std::string, std::string>{
           {"a", "a"}, {"a1,b[2-3]", "a1"}, {"n[04,07-09]", "n04"}, {"n[5]", "n5"}, {"x-y-12,z", "x-y-12"}})
    EXPECT_EQ(read(with(kSlurm, {{"SLURM_STEP_NODELIST", list}}))->host, first) << list;
  launch = read(with(kSlurm, {{"MASTER_ADDR", "head"}, {"MASTER_PORT", "1"}}));
  EXPECT_EQ(launch->host, "head");
  EXPECT_EQ(launch->port, 1);
}

TEST(Launch, ReadsOpenMpi) {
  const auto launch = read(kOpenMpi);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, "Open MPI");
  EXPECT_EQ(launch->host, "10.0.0.1");
}

// The script of a job, or a shell in it, has some of SLURM's variables too.
TEST(Launch, ABatchScriptItselfIsNoRank) {
  EXPECT_FALSE(read({{"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "1"}}));
}

TEST(Launch, TorchrunUnderSlurmIsTorchrun) { EXPECT_EQ(read(with(kSlurm, kTorchrun))->launcher, "torchrun"); }

TEST(Launch, OneRankIsAlone) {
  EXPECT_FALSE(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}}));
  EXPECT_FALSE(read(with(kSlurm, {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_LOCALID", "0"}})));
}

TEST(Launch, MissingVariablesAreNamed) {
  for (const auto& all : {kTorchrun, kOpenMpi})
    for (const auto& [name, value] : all) {
      if (name == "TORCHELASTIC_USE_AGENT_STORE" || name == "OMPI_COMM_WORLD_SIZE") continue;
      auto some = all;
      some.erase(name);
      EXPECT_THAT(complaint(some), HasSubstr("[" + name + "] expected this variable from "));
    }
}

TEST(Launch, ContradictionsAreNamed) {
  EXPECT_THAT(complaint(with(kTorchrun, {{"RANK", "4"}})),
              HasSubstr("[RANK] expected an integer from 0 to 3, got \"4\""));
  EXPECT_THAT(complaint(with(kTorchrun, {{"RANK", "-1"}})), HasSubstr("[RANK]"));
  EXPECT_THAT(complaint(with(kTorchrun, {{"LOCAL_RANK", "9"}})), HasSubstr("[LOCAL_RANK]"));
  EXPECT_THAT(complaint(with(kTorchrun, {{"WORLD_SIZE", "4x"}})), HasSubstr("[WORLD_SIZE]"));
  EXPECT_THAT(complaint(with(kTorchrun, {{"MASTER_PORT", "70000"}})), HasSubstr("[MASTER_PORT]"));
}

}  // namespace
}  // namespace vlmamba
