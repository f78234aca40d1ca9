#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"

// What `vlmamba bench` says; how long things take is nobody's assertion.

namespace vlmamba {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<std::string> bench(const std::vector<std::string>& more) {
  std::vector<std::string> arguments{"bench", "--seconds", "0", "--threads", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Bench, MeasuresEveryOpThatAShapeFits) {
  const test::Folder folder;
  const std::string file = folder.text() + "/figures.json";
  const auto outcome =
      test::vlmamba(bench({"--shapes", "B2 L8 D16 N4", "--shapes", "B1 2x3 D8 K2 N2", "--json", file}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto json = io::read_json(file, ExitCode::kData);
  std::set<std::string> measured;
  for (const auto& row : json.find("rows")->items()) {
    const std::string op = row.find("op")->as_string(), pass = row.find("pass")->as_string();
    measured.insert(op + " " + pass);
    EXPECT_GT(row.find("median_ms")->as_number(), 0) << op;
    EXPECT_LE(row.find("least_ms")->as_number(), row.find("median_ms")->as_number()) << op;
    EXPECT_THAT(outcome.out, HasSubstr(op));
  }
  for (const std::string op : {"selective_scan", "selective_scan_2d", "causal_conv1d", "causal_conv1d_2d", "rms_norm",
                               "add_rms_norm", "cross_scan", "cross_merge", "vss"})
    for (const std::string pass : {" forward", " backward"}) EXPECT_EQ(measured.count(op + pass), 1u) << op << pass;
  for (const std::string op : {"selective_state_update", "causal_conv1d_update"})
    EXPECT_EQ(measured.count(op + " forward"), 1u) << op;
}

// 2 rows of 8 positions of 16 channels with 4 states: counted by hand.
TEST(Bench, CountsTheLeastThatAPassMustDo) {
  const test::Folder folder;
  const std::string file = folder.text() + "/figures.json";
  ASSERT_EQ(test::vlmamba(bench({"--shapes", "B2 L8 D16 N4", "--ops", "selective_scan", "--json", file})).code, 0);
  const auto json = io::read_json(file, ExitCode::kData);
  const auto& forward = json.find("rows")->items()[0];
  EXPECT_EQ(forward.find("state_steps")->as_number(), 2 * 8 * 16 * 4);
  EXPECT_EQ(forward.find("exps")->as_number(), 2 * 8 * 16 * (4 + 2));  // decays, softplus, gate
  // u, delta, z, y; B, C; A, D, bias.
  EXPECT_EQ(forward.find("bytes")->as_number(), 4 * (4 * 256 + 2 * 64 + 64 + 32));
}

TEST(Bench, ScalesDownWhatDoesNotFitAndSaysSo) {
  const auto outcome =
      test::vlmamba(bench({"--shapes", "B8 L1024 D64 N4", "--ops", "rms_norm", "--memory", "0.002", "--no-reference"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("B8 L1024 D64"), HasSubstr("scaled down to B1 L1024 D64")));
}

TEST(Bench, NamesWhatItDoesNotUnderstand) {
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& message) {
    const auto outcome = test::vlmamba(bench(arguments));
    EXPECT_EQ(outcome.code, 2) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  };
  refused({"--shapes", "large"}, "[--shapes] expected a suite (cpu, lm,");
  refused({"--shapes", "B2 L0 D16"}, "\"0\" is no size");
  refused({"--shapes", "B2 3x3 D16 K3"}, "K is 1, 2 or 4");
  refused({"--ops", "scan"}, "[--ops] expected some of selective_scan,");
  refused({"--dtype", "int8"}, "[--dtype] expected fp32, bf16, fp16 or fp64, got int8");
  refused({"--device", "tpu"}, "[--device] expected cpu or cuda, got tpu");
  refused({"--instructions", "sse"}, "[--instructions] expected baseline, avx2 or avx512, got sse");
  refused({"--memory", "-1"}, "[--memory] expected GiB that are free, or 0 for half of them, from 0 to ");
  refused({"--memory", "1e30"}, ", got 1e+30");
  refused({"--memory", "nan"}, ", got nan");
  refused({"--memory", "much"}, "--memory");
}

TEST(Bench, RefusesNumbersThatMakeNoSense) {
  for (const auto& [option, value] :
       {std::pair("--threads", "-1"), {"--threads", "100000"}, {"--seconds", "-0.5"}, {"--seconds", "inf"}}) {
    const auto outcome = test::vlmamba({"bench", "--shapes", "B1 L2 D2", option, value});
    EXPECT_EQ(outcome.code, 2) << option << " " << value;
    EXPECT_THAT(outcome.err,
                AllOf(HasSubstr(std::string("[") + option + "] expected "), HasSubstr(std::string("got ") + value)));
  }
}

}  // namespace
}  // namespace vlmamba
