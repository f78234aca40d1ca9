#include "vlmamba/data/loader.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <random>
#include <set>

#include "vlmamba/core/error.h"
#include "vlmamba/core/tokens.h"
#include "vlmamba/data/collator.h"
#include "vlmamba/io/images/png.h"

namespace vlmamba {
namespace {

constexpr int64_t kPatches = 4;

class Data : public testing::Test {
 protected:
  Data() {
    folder_ = std::filesystem::path(testing::TempDir()) / "vlmamba-loader";
    std::filesystem::create_directories(folder_);
    for (int i = 0; i < 5; ++i) {
      io::Image image{2, 2, std::vector<uint8_t>(12, static_cast<uint8_t>(i * 50))};
      io::write_png((folder_ / (std::to_string(i) + ".png")).string(), image);
    }
    for (int i = 0; i < 10; ++i) {
      const bool picture = i % 2 == 0;
      records_.push_back(
          {std::to_string(i),
           picture ? std::vector<std::string>{std::to_string(i / 2) + ".png"} : std::vector<std::string>{},
           {{true, picture ? "<image>\nwhat is this?" : "count"},
            {false, std::string(static_cast<size_t>(i + 1), '7')}},
           0});
    }
    ImageProcessorConfig pictures;
    pictures.size = 2;
    PromptConfig prompt;
    prompt.system = "";
    reader_ = std::make_unique<ExampleReader>(
        ExampleReader{Tokenizer::load(std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart"),
                      prompt,
                      ImageProcessor(pictures),
                      {folder_.string()},
                      kPatches,
                      64});
  }
  ~Data() override { std::filesystem::remove_all(folder_); }

  Sampler sampler() const {
    SamplerInput input{{{static_cast<int64_t>(records_.size()), 1}}, {}};
    for (const auto& record : records_) input.sizes.push_back({0, !record.images.empty()});
    return Sampler({.seed = 1}, std::move(input));
  }
  SampleReader samples(const SamplePolicy& policy = {}) const {
    return SampleReader([this](int64_t number) { return records_[static_cast<size_t>(number)]; }, *reader_, policy);
  }
  Loader loader(const BatchPlan& plan, int64_t first_step = 0, const SamplePolicy& policy = {}) const {
    return {samples(policy), sampler(), plan, first_step};
  }

  std::filesystem::path folder_;
  std::vector<Record> records_;
  std::unique_ptr<ExampleReader> reader_;
};

TEST_F(Data, ABatchHoldsWhatItsExamplesSay) {
  const Example with = reader_->read(records_[2]), without = reader_->read(records_[1]);
  const Batch batch = collate({&with, &without}, reader_->tokenizer.pad_id(), 2);
  EXPECT_EQ(batch.pixel_values.sizes(), at::IntArrayRef({1, 3, 2, 2}));
  EXPECT_EQ(batch.input_ids[0].eq(kImageToken).sum().item<int64_t>(), kPatches);
  const auto length = static_cast<int64_t>(without.sample.input_ids.size());
  EXPECT_TRUE(batch.seq_idx[1].slice(0, 0, length).eq(0).all().item<bool>());
  EXPECT_TRUE(batch.seq_idx[1].slice(0, length).eq(-1).all().item<bool>());
  EXPECT_TRUE(batch.labels[1].slice(0, length).eq(kIgnoreIndex).all().item<bool>());
  EXPECT_TRUE(batch.input_ids[1].slice(0, length).eq(reader_->tokenizer.pad_id()).all().item<bool>());
  for (int64_t t = 0; t < length; ++t)
    EXPECT_EQ(batch.input_ids[1][t].item<int64_t>(), without.sample.input_ids[static_cast<size_t>(t)]);
  // A label is the id at its own place, and the end of text is learnt.
  const auto learnt = batch.labels.ne(kIgnoreIndex);
  EXPECT_TRUE(at::equal(batch.labels.masked_select(learnt), batch.input_ids.masked_select(learnt)));
  EXPECT_EQ(batch.labels[1][length - 1].item<int64_t>(), reader_->tokenizer.end_of_text_id());
  EXPECT_EQ(count_targets(batch), learnt.sum().item<int64_t>());
}

TEST_F(Data, StepsAreTheSameForAnyNumberOfThreadsAndFromAnyStart) {
  std::vector<std::vector<Batch>> steps;
  auto plain = loader({6, 3, 0});
  for (int i = 0; i < 7; ++i) steps.push_back(plain.next().micro_batches);
  EXPECT_EQ(steps[0].size(), 2u);
  for (const int64_t threads : {1, 3})
    for (const int64_t start : {0, 2, 5}) {
      auto other = loader({6, 3, threads}, start);
      for (auto step = static_cast<size_t>(start); step < 7; ++step) {
        const auto batches = other.next().micro_batches;
        for (size_t i = 0; i < 2; ++i) {
          EXPECT_EQ(batches[i].sample_ids, steps[step][i].sample_ids);
          EXPECT_TRUE(at::equal(batches[i].input_ids, steps[step][i].input_ids));
          EXPECT_EQ(batches[i].pixel_values.defined(), steps[step][i].pixel_values.defined());
          if (batches[i].pixel_values.defined()) {
            EXPECT_TRUE(at::equal(batches[i].pixel_values, steps[step][i].pixel_values));
          }
        }
      }
    }
}

// A stage of three epochs that is stopped at any steps: no record comes twice in an epoch, none is missing.
TEST_F(Data, AStoppedStageReadsTheRecordsOfAWholeOneInTheSameOrder) {
  constexpr int64_t kSteps = 15;  // of two records, of ten
  const auto read = [&](int64_t threads, std::vector<int64_t> stops) {
    stops.push_back(kSteps);
    std::vector<std::string> ids;
    int64_t step = 0;
    for (const int64_t stop : stops) {
      auto part = loader({2, 1, threads}, step);
      for (; step < stop; ++step)
        for (const auto& batch : part.next().micro_batches)
          ids.insert(ids.end(), batch.sample_ids.begin(), batch.sample_ids.end());
    }
    return ids;
  };
  const auto whole = read(0, {});
  for (auto epoch = whole.begin(); epoch != whole.end(); epoch += 10)
    EXPECT_EQ(std::set<std::string>(epoch, epoch + 10).size(), 10u);
  std::mt19937 random(5);
  constexpr int kStops = 50;
  for (int i = 0; i < kStops; ++i) {
    std::vector<int64_t> stops(1 + random() % 3);
    for (auto& stop : stops) stop = static_cast<int64_t>(random() % kSteps);
    std::sort(stops.begin(), stops.end());
    ASSERT_EQ(read(std::array{0, 1, 4}[random() % 3], stops), whole) << testing::PrintToString(stops);
  }
  std::printf("stages stopped up to three times in three epochs: %d, of the same order: %d\n", kStops, kStops);
}

TEST_F(Data, AFailureComesAtItsOwnStep) {
  records_[4].images = {"none.png"};
  for (const int64_t threads : {0, 2}) {
    auto broken = loader({6, 3, threads});
    Sampler order = sampler();
    int64_t bad = 0;
    while (order.at(bad) != 4) ++bad;
    for (int64_t step = 0; step < bad / 6; ++step) broken.next();
    EXPECT_THROW(broken.next(), Error);
  }
}

TEST_F(Data, LongExamplesAreCutButNeverThroughAPicture) {
  ExampleReader shorter = *reader_;
  shorter.max_length = 16;
  const auto whole = reader_->read(records_[9]).sample, cut = shorter.read(records_[9]).sample;
  ASSERT_LT(shorter.max_length, static_cast<int64_t>(whole.input_ids.size()));
  EXPECT_EQ(cut.input_ids.size(), 16u);
  EXPECT_TRUE(std::equal(cut.input_ids.begin(), cut.input_ids.end(), whole.input_ids.begin()));
  shorter.max_length = 4;
  EXPECT_THROW(shorter.read(records_[2]), Error);
}

TEST_F(Data, LearningPromptsLabelsAllTextButNoPicture) {
  ExampleReader all = *reader_;
  all.prompt.learn_prompts = true;
  const auto sample = all.read(records_[2]).sample;
  for (size_t i = 0; i < sample.input_ids.size(); ++i)
    EXPECT_EQ(sample.labels[i], sample.input_ids[i] == kImageToken ? kIgnoreIndex : sample.input_ids[i]);
}

std::vector<std::string> ids_of(const StepBatches& step) {
  std::vector<std::string> ids;
  for (const auto& batch : step.micro_batches) ids.insert(ids.end(), batch.sample_ids.begin(), batch.sample_ids.end());
  return ids;
}

std::vector<std::string> texts(const std::vector<SampleRemark>& remarks) {
  std::vector<std::string> all;
  for (const auto& remark : remarks) all.push_back(remark.text);
  return all;
}

constexpr SamplePolicy kSkip{.on_bad_sample = OnBadSample::kSkip};

// Two of ten records are bad, each is due once in the five steps; others take their places.
TEST_F(Data, SkippedRecordsAreReplacedAlikeForAnyThreadsStartAndProcesses) {
  records_[4].images = {"none.png"};
  records_[7].turns.pop_back();
  std::vector<StepBatches> steps;
  auto plain = loader({2, 1, 0}, 0, kSkip);
  SampleCounts counts;
  std::string remarks;
  for (int i = 0; i < 5; ++i) {
    steps.push_back(plain.next());
    counts += steps.back().samples;
    for (const auto& remark : steps.back().remarks) remarks += remark.text;
    for (const auto& id : ids_of(steps.back())) EXPECT_THAT(id, testing::AllOf(testing::Ne("4"), testing::Ne("7")));
  }
  EXPECT_EQ(counts.read, 10);
  EXPECT_EQ(counts.skipped, 2);
  EXPECT_THAT(remarks, testing::AllOf(testing::HasSubstr("none.png"), testing::HasSubstr("record 7")));
  for (const int64_t threads : {1, 3})
    for (const int64_t start : {0, 1, 3}) {
      auto other = loader({2, 1, threads}, start, kSkip);
      for (auto step = static_cast<size_t>(start); step < 5; ++step) {
        const StepBatches got = other.next();
        EXPECT_EQ(ids_of(got), ids_of(steps[step]));
        EXPECT_EQ(texts(got.remarks), texts(steps[step].remarks));
      }
    }
  auto first = loader({2, 1, 1, 0, 2}, 0, kSkip), second = loader({2, 1, 1, 1, 2}, 0, kSkip);
  for (const auto& step : steps) {
    const auto one = first.next(), two = second.next();
    EXPECT_EQ(std::vector({ids_of(one)[0], ids_of(two)[0]}), ids_of(step));
    EXPECT_EQ(one.num_tokens + two.num_tokens, step.num_tokens);
    EXPECT_EQ(one.samples.skipped + two.samples.skipped, step.samples.skipped);
  }
}

TEST_F(Data, ProcessesShareTheMicroBatchesOfAStep) {
  auto whole = loader({6, 1, 0});
  std::vector<std::unique_ptr<Loader>> parts;
  for (int64_t rank = 0; rank < 3; ++rank)
    parts.push_back(std::make_unique<Loader>(samples(), sampler(), BatchPlan{6, 1, rank, rank, 3}, 2));
  for (int i = 0; i < 2; ++i) whole.next();
  for (int i = 0; i < 4; ++i) {
    const auto ids = ids_of(whole.next());
    for (size_t rank = 0; rank < 3; ++rank)
      EXPECT_EQ(ids_of(parts[rank]->next()), std::vector({ids[rank], ids[rank + 3]}));
  }
}

TEST_F(Data, TooLongRecordsAreCutLeftOutOrRefused) {
  reader_->max_length = 18;
  auto whole_length = [&](size_t i) { return static_cast<int64_t>(reader_->tokenize(records_[i]).input_ids.size()); };
  std::vector<std::string> longer;
  for (size_t i = 0; i < 10; ++i)
    if (whole_length(i) > reader_->max_length) longer.push_back(std::to_string(i));
  ASSERT_THAT(longer.size(), testing::AllOf(testing::Gt(0u), testing::Lt(9u)));
  const auto policy = [](OnTooLong what) { return SamplePolicy{.on_too_long = what}; };
  const auto cut = loader({10, 10, 0}, 0, policy(OnTooLong::kTruncate)).next();
  EXPECT_EQ(cut.samples.cut, static_cast<int64_t>(longer.size()));
  EXPECT_EQ(cut.micro_batches[0].input_ids.size(1), 18);
  const auto dropped = loader({10, 10, 2}, 0, policy(OnTooLong::kDrop)).next();
  EXPECT_EQ(dropped.samples.dropped, static_cast<int64_t>(longer.size()));
  EXPECT_EQ(dropped.samples.cut, 0);
  for (const auto& id : ids_of(dropped)) EXPECT_EQ(std::count(longer.begin(), longer.end(), id), 0);
  EXPECT_THROW(loader({10, 10, 0}, 0, policy(OnTooLong::kError)).next(), Error);
  SamplePolicy both = kSkip;
  both.on_too_long = OnTooLong::kError;
  EXPECT_THROW(loader({10, 10, 0}, 0, both).next(), Error) << "a long record is no bad one";
}

TEST_F(Data, RecordsWithNothingToLearnAreLeftOutAndCounted) {
  reader_->prompt.system = std::string(200, 'x');  // the cut comes before every answer
  EXPECT_THROW(loader({2, 2, 0}, 0, kSkip).next(), Error) << "no record is usable";
  reader_->prompt.system.clear();
  records_[3].turns[0].text = std::string(200, 'x');
  const auto step = loader({10, 5, 1}).next();
  EXPECT_EQ(step.samples.untrained, 1);
  EXPECT_THAT(texts(step.remarks), testing::ElementsAre(testing::HasSubstr("record 3 has nothing to learn")));
  EXPECT_EQ(ids_of(step).size(), 10u);
}

TEST(SamplePolicy, StopsWhereTooManyRecordsAreLost) {
  const auto stops = [](const SampleCounts& counts, const SamplePolicy& policy) {
    try {
      check_counts(counts, policy, "; an example");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_THAT(error.what(), testing::HasSubstr("; an example"));
      return true;
    }
    return false;
  };
  EXPECT_FALSE(stops({.read = 2000, .skipped = 1000}, {}));
  EXPECT_TRUE(stops({.read = 2000, .skipped = 1001}, {}));
  EXPECT_FALSE(stops({.read = 20, .untrained = 9}, {})) << "too few to speak of a share";
  EXPECT_TRUE(stops({.read = 20, .untrained = 10}, {}));
  EXPECT_FALSE(stops({.read = 20'000, .untrained = 20}, {}));
  EXPECT_TRUE(stops({.read = 20'000, .untrained = 21}, {}));
  EXPECT_TRUE(stops({.read = 20'000, .untrained = 1}, {.max_untrained_share = 0}));
}

// However long the caller computes, no more than the next step is read ahead, and all that is under way ends.
TEST_F(Data, ReadsNoFurtherAheadThanTheNextStep) {
  std::atomic<int64_t> read = 0;
  const ReadRecord counted = [&](int64_t number) {
    ++read;
    return records_[static_cast<size_t>(number)];
  };
  for (const int64_t threads : {1, 4}) {
    read = 0;
    Loader loader(SampleReader(counted, *reader_, {}), sampler(), {20, 5, threads}, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(read, 0) << "nothing is read before it is asked for";
    for (int64_t step = 1; step <= 3; ++step) {
      loader.next();
      for (int wait = 0; wait < 200 && read < 20 * (step + 1); ++wait)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      EXPECT_EQ(read, 20 * (step + 1));
    }
  }
}

TEST_F(Data, PackedRowsHoldTheSameExamplesWithoutTargetsAcrossThem) {
  std::vector<Example> examples;
  Row all;
  for (const auto& record : records_) examples.push_back(reader_->read(record));
  for (const auto& example : examples) all.push_back(&example);
  const int64_t max_length = 40;
  const auto rows = pack(all, max_length);
  EXPECT_LT(rows.size(), all.size());
  std::multiset<const Example*> packed;
  for (const Row& row : rows) packed.insert(row.begin(), row.end());
  EXPECT_EQ(packed, std::multiset<const Example*>(all.begin(), all.end()));

  const Batch batch = collate_rows(rows, reader_->tokenizer.pad_id(), 2), alone = collate(all, 1, 2);
  EXPECT_LE(batch.input_ids.size(1), max_length);
  EXPECT_EQ(count_targets(batch), count_targets(alone));
  int64_t picture = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    int64_t at = 0;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const auto& sample = rows[r][i]->sample;
      const auto length = static_cast<int64_t>(sample.input_ids.size());
      const auto part = [&](const at::Tensor& of) { return of[static_cast<int64_t>(r)].slice(0, at, at + length); };
      EXPECT_TRUE(part(batch.seq_idx).eq(static_cast<int64_t>(i)).all().item<bool>());
      EXPECT_TRUE(at::equal(part(batch.input_ids), at::tensor(sample.input_ids)));
      EXPECT_EQ(part(batch.labels)[0].item<int64_t>(), kIgnoreIndex);
      EXPECT_TRUE(at::equal(part(batch.labels).slice(0, 1), at::tensor(sample.labels).slice(0, 1)));
      for (const auto& pixels : rows[r][i]->pictures)
        EXPECT_TRUE(at::equal(batch.pixel_values[picture++].flatten(), at::tensor(pixels)));
      at += length;
    }
    EXPECT_TRUE(batch.seq_idx[static_cast<int64_t>(r)].slice(0, at).eq(-1).all().item<bool>());
  }
  EXPECT_EQ(picture, 5);
}

}  // namespace
}  // namespace vlmamba
