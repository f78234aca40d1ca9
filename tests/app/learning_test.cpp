#include <gmock/gmock.h>

#include <cstdio>
#include <sstream>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"

// That training trains: the same losses as ever, and everything learnt where there is little to learn.
namespace vlmamba {
namespace {

using test::TinyRun;

std::vector<double> losses(const std::string& run, const std::string& stage) {
  std::vector<double> values;
  std::istringstream lines(test::read(run + "/" + stage + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    values.push_back(io::parse_json(line, "metrics", ExitCode::kInternal).find("loss")->as_number());
  return values;
}

// Of a fixed seed. Machines differ in the last bits of exp and of sums, which ten steps at this learning rate do not
// blow up (2e-7 between AVX-512 and none); a change of the samples' order, of a mask, of an initial value or of the
// optimizer shows in the third digit.
TEST(Learning, TheFirstTenLossesAreTheCommittedOnes) {
  const TinyRun tiny;
  const auto outcome = tiny.train({"stages.align.steps=10", "stages.instruct.steps=10"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<double> align{6.124866, 6.116825, 6.134775, 6.123934, 6.138869,
                                  6.113651, 6.118303, 6.143318, 6.114826, 6.130084};
  const std::vector<double> instruct{6.122458, 6.119051, 6.110541, 6.057437, 6.041189,
                                     6.053469, 6.00879,  6.022273, 6.003969, 5.995954};
  for (const auto& [stage, expected] : {std::pair{"align", align}, std::pair{"instruct", instruct}}) {
    const auto got = losses(tiny.run(), stage);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-5 * expected[i]) << stage << " " << i;
  }
}

// Six pictures, six answers, one batch.
TEST(Learning, OneBatchIsLearntByHeart) {
  const TinyRun tiny;
  std::string records;
  for (int i = 0; i < 6; ++i) {
    const std::string n = std::to_string(i);
    records += std::string(i ? "," : "[") + R"({"id": "r)" + n + R"(", "image": "images/)" + n +
               R"(.png", "conversations": [{"from": "human", "value": "<image>\\nwhat?"}, {"from": "gpt", "value": ")" +
               n + R"("}]})";
  }
  test::write(tiny.data + "/records.json", records + "]");
  const auto outcome = tiny.train({"stages.align.steps=1", "stages.instruct.batch.global_batch=6",
                                   "stages.instruct.batch.micro_batch=6", "stages.instruct.steps=300",
                                   "stages.instruct.checkpoint.every=0", "stages.instruct.optimizer.lr=0.02"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto got = losses(tiny.run(), "instruct");
  std::printf("loss of one batch: %.3f at first, %.5f after 300 steps\n", got.front(), got.back());
  EXPECT_GT(got.front(), 3);
  EXPECT_LT(got.back(), 0.01);
}

}  // namespace
}  // namespace vlmamba
