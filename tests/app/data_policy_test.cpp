#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Settings of both stages.
std::vector<std::string> of_both(const std::vector<std::string>& settings) {
  std::vector<std::string> all;
  for (const std::string stage : {"align", "instruct"})
    for (const auto& setting : settings) all.push_back("stages." + stage + "." + setting);
  return all;
}

std::vector<io::Json> metrics_of(const std::string& run, const std::string& stage = "instruct") {
  std::istringstream lines(read(run + "/" + stage + "/metrics.jsonl"));
  std::vector<io::Json> metrics;
  for (std::string line; std::getline(lines, line);)
    metrics.push_back(io::parse_json(line, "metrics", ExitCode::kData));
  return metrics;
}

int64_t counted(const std::string& run, const std::string& name) {
  return metrics_of(run).back().find("samples")->find(name)->as_integer();
}

// Twelve records of which three are bad in three ways; an epoch is three steps of four.
TEST(DataPolicy, SkippingCountsWhatIsBadAndRepeatsForThreadsAndResumedRuns) {
  const TinyRun tiny;
  fs::remove(tiny.data + "/images/1.png");
  test::write(tiny.data + "/images/3.png", "no picture");
  std::string records = read(tiny.data + "/records.json");
  const std::string last = R"("value": "5"})";
  records.replace(records.find(last), last.size(), R"("value": 5})");  // of record 5, which is malformed then
  test::write(tiny.data + "/records.json", records);
  EXPECT_EQ(tiny.train({}, "strict").code, 3);

  auto settings = of_both({"data.on_bad_sample=skip", "batch.global_batch=4", "batch.micro_batch=2", "steps=11"});
  const auto whole = tiny.train(settings, "whole");
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_THAT(whole.err, AllOf(HasSubstr("1.png] expected a file, got no such file: skipped"), HasSubstr("3.png]"),
                               HasSubstr("record 5, id r5")));
  // Eleven records are well formed: four times eleven positions are four epochs.
  EXPECT_EQ(counted(tiny.run("whole"), "read"), 44);
  EXPECT_EQ(counted(tiny.run("whole"), "skipped"), 8);
  for (const auto& setting : of_both({"batch.loader_threads=3"})) settings.push_back(setting);
  ASSERT_EQ(tiny.train(settings, "threads").code, 0);
  fs::copy(tiny.run("whole"), tiny.run("cut"), fs::copy_options::recursive);
  for (int step = 5; step <= 11; ++step) {
    std::string name = std::to_string(step);
    name.insert(0, 8 - name.size(), '0');
    fs::remove_all(tiny.run("cut") + "/instruct/checkpoints/step_" + name);
  }
  ASSERT_EQ(test::vlmamba({"train", "--resume", tiny.run("cut")}).code, 0);
  for (const std::string other : {"threads", "cut"})
    EXPECT_EQ(read(tiny.run(other) + "/instruct/metrics.jsonl"), read(tiny.run("whole") + "/instruct/metrics.jsonl"));
}

TEST(DataPolicy, TooManyLostRecordsStopTheRunAndAreNamed) {
  const TinyRun tiny;
  fs::remove(tiny.data + "/images/1.png");
  fs::remove(tiny.data + "/images/3.png");
  const auto capped = tiny.train(of_both({"data.on_bad_sample=skip", "data.max_bad_samples=1"}), "capped");
  EXPECT_EQ(capped.code, 3);
  EXPECT_THAT(capped.err, AllOf(HasSubstr("[data.max_bad_samples] expected at most 1 records"), HasSubstr("3.png")));
  // The cut comes before every answer.
  const auto untrained = tiny.train(of_both({"batch.max_length=12", "data.on_bad_sample=skip"}), "untrained");
  EXPECT_EQ(untrained.code, 3);
  EXPECT_THAT(untrained.err, HasSubstr("nothing to learn within batch.max_length (12)"));
}

TEST(DataPolicy, AFileOfAnotherSizeThanExpectedIsRefused) {
  const TinyRun tiny;
  EXPECT_EQ(tiny.train(of_both({"data.sets.tiny.expected_records=12"}), "right").code, 0);
  const auto wrong = tiny.train(of_both({"data.sets.tiny.expected_records=13"}), "wrong");
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("expected expected_records (13) records, got 12"));
}

TEST(DataPolicy, TheIndexIsKeptInTheRunAndMadeAnewWhenItIsDamaged) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  fs::path index;
  for (const auto& entry : fs::directory_iterator(tiny.run() + "/index")) index = entry.path();
  ASSERT_THAT(index.filename().string(), HasSubstr("records-"));
  const std::string kept = read(index);
  test::write(index, kept.substr(0, kept.size() / 2));
  fs::remove_all(tiny.run() + "/instruct/checkpoints/step_00000005");
  const auto resumed = test::vlmamba({"train", "--resume", tiny.run()});
  EXPECT_EQ(resumed.code, 0);
  EXPECT_THAT(resumed.err, HasSubstr("is damaged; it is made anew"));
  EXPECT_EQ(read(index), kept);
}

TEST(DataPolicy, PackedAndGroupedRunsTrainOnTheSameRecordsAsOthers) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "plain").code, 0);
  ASSERT_EQ(tiny.train(of_both({"batch.packing=true"}), "packed").code, 0);
  const auto plain = metrics_of(tiny.run("plain")), packed = metrics_of(tiny.run("packed"));
  ASSERT_EQ(plain.size(), packed.size());
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(plain[i].find("tokens")->as_integer(), packed[i].find("tokens")->as_integer());
    EXPECT_EQ(plain[i].find("images")->as_integer(), packed[i].find("images")->as_integer());
    EXPECT_NEAR(plain[i].find("loss")->as_number(), packed[i].find("loss")->as_number(), 1e-4);
  }
  EXPECT_EQ(tiny.train(of_both({"batch.group_by=modality_length", "batch.packing=true"}), "grouped").code, 0);
  EXPECT_NE(read(tiny.run("grouped") + "/instruct/metrics.jsonl"),
            read(tiny.run("packed") + "/instruct/metrics.jsonl"));
}

TEST(ShowLabels, MarksWhatIsLearntAndShowsThePictureAsItIsProcessed) {
  const TinyRun tiny;
  const std::string page = (tiny.folder / "labels.html").string();
  const auto shown =
      test::vlmamba({"show-labels", "--config", tiny.config, "--set", "data_root=" + tiny.data, "--set",
                     "output_dir=" + tiny.run(), "--stage", "instruct", "--count", "12", "--html", page});
  ASSERT_EQ(shown.code, 0) << shown.err;
  EXPECT_FALSE(fs::exists(tiny.run()));
  for (int i = 0; i < 12; ++i)
    EXPECT_THAT(shown.out, HasSubstr("record r" + std::to_string(i) + " of tiny: ")) << "each record of the epoch";
  EXPECT_THAT(shown.out, AllOf(HasSubstr("what is in the center? ASSISTANT:[[ 7<|endoftext|>]]"),
                               HasSubstr("USER: <picture of 4 positions>\n"), HasSubstr("1 picture, ")));
  const std::string html = read(page);
  EXPECT_THAT(html, AllOf(HasSubstr("data:image/png;base64,iVBORw0KGgo"), HasSubstr(" 7&lt;|endoftext|&gt;</b>"),
                          Not(HasSubstr("<|endoftext"))));
  const auto wrong =
      test::vlmamba({"show-labels", "--config", tiny.config, "--set", "output_dir=x", "--stage", "tune"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("expected one of align, instruct, got \"tune\""));
}

}  // namespace
}  // namespace vlmamba
