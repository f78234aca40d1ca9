#include "vlmamba/data/loader.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/core/tokens.h"
#include "vlmamba/data/collator.h"
#include "vlmamba/io/images/png.h"

namespace vlmamba {
namespace {

constexpr int64_t kPatches = 4;

TEST(Sampler, GivesEveryRecordOnceAnEpochInChangingOrder) {
  Sampler sampler(7, 0, 10);
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t position = 0; position < 30; ++position)
    epochs[static_cast<size_t>(position / 10)].push_back(sampler.at(position));
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  for (auto epoch : epochs) {
    std::sort(epoch.begin(), epoch.end());
    EXPECT_THAT(epoch, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  }
  EXPECT_EQ(Sampler(7, 0, 10).at(25), epochs[2][5]) << "a position does not depend on how it was reached";
  EXPECT_NE(Sampler(7, 1, 1000).at(0), Sampler(7, 0, 1000).at(0)) << "stages of one seed differ";
}

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

  Loader loader(int64_t threads, int64_t first_step = 0) const {
    return {records_, *reader_, Sampler(1, 0, 10), {6, 3, threads}, first_step};
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
  auto plain = loader(0);
  for (int i = 0; i < 7; ++i) steps.push_back(plain.next().micro_batches);
  EXPECT_EQ(steps[0].size(), 2u);
  for (const int64_t threads : {1, 3})
    for (const int64_t start : {0, 2, 5}) {
      auto other = loader(threads, start);
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

TEST_F(Data, AFailureComesAtItsOwnStep) {
  records_[4].images = {"none.png"};
  for (const int64_t threads : {0, 2}) {
    auto broken = loader(threads);
    Sampler sampler(1, 0, 10);
    int64_t bad = 0;
    while (sampler.at(bad) != 4) ++bad;
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

}  // namespace
}  // namespace vlmamba
