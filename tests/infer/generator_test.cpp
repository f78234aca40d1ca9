#include "vlmamba/infer/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/infer/random_model.h"
#include "vlmamba/core/tokens.h"

namespace vlmamba {
namespace {

using at::Tensor;
using test::random_model;
using test::random_prompts;
using test::RandomModel;

// A fifth of the vocabulary ends an answer, so that some end early.
const std::vector<int64_t> kEnds{0, 1, 2, 3, 4, 5};

std::vector<int64_t> alone(const VlMamba& model, const Prompt& prompt, const SamplingConfig& config,
                           int64_t sequence = 0) {
  PrefixCache reader(model, 0);
  Generator generator(*model.language_model, config, kEnds, /*seed=*/3);
  return generate(reader, generator, {prompt}, 1, sequence).front();
}

// Every language model with every connector, in fp32, where neighbours in a batch could change the last bits.
class Answers : public testing::TestWithParam<std::tuple<LanguageKind, std::string>> {};

TEST_P(Answers, OfABatchWithSharedBeginningsAreThoseOfEachAlone) {
  const auto model = random_model({std::get<0>(GetParam()), std::get<1>(GetParam()), 1});
  const auto prompts = random_prompts(2, /*count=*/16, /*pictures=*/3);
  std::set<std::string> pictures;
  for (const auto& prompt : prompts)
    for (const auto& picture : prompt.pictures) pictures.insert(picture->digest);
  SamplingConfig config;
  config.max_new_tokens = 6;
  size_t early = 0;
  for (const double temperature : {0.0, 0.7}) {
    config.temperature = temperature;
    PrefixCache reader(*model);
    Generator generator(*model->language_model, config, kEnds, 3);
    const auto answers = generate(reader, generator, prompts, /*batch=*/9);
    for (size_t i = 0; i < prompts.size(); ++i) {
      EXPECT_EQ(answers[i], alone(*model, prompts[i], config, static_cast<int64_t>(i))) << "prompt " << i;
      early += static_cast<int64_t>(answers[i].size()) < config.max_new_tokens ? 1 : 0;
    }
    EXPECT_EQ(reader.counts().pictures, static_cast<int64_t>(pictures.size()));
    EXPECT_GT(reader.counts().shared, 0);
  }
  EXPECT_GT(early, 0u);
}

TEST_P(Answers, AreThoseOfReadingEverythingAgain) {
  const auto model = random_model({std::get<0>(GetParam()), std::get<1>(GetParam()), 4});
  model->to(at::kDouble);
  const c10::AutoGradMode no_grad(false);
  SamplingConfig config;
  config.max_new_tokens = 6;
  const auto prompts = random_prompts(5, 6, 2);
  PrefixCache reader(*model);
  Generator generator(*model->language_model, config, kEnds);
  const auto answers = generate(reader, generator, prompts);
  for (size_t i = 0; i < prompts.size(); ++i) {
    Prompt longer = prompts[i];
    for (const int64_t token : answers[i]) {
      const Tensor hidden = model->language_model->forward(model->embed(test::batch_of(longer, *model)));
      EXPECT_EQ(model->language_model->head(hidden[0][-1]).argmax().item<int64_t>(), token) << "prompt " << i;
      longer.ids.push_back(token);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Answers,
                         testing::Combine(testing::Values(LanguageKind::kMamba, LanguageKind::kMamba2,
                                                          LanguageKind::kGptNeox),
                                          testing::Values("mlp", "vss_mlp", "vss_l2")));

TEST(Generator, RowsJoinAndLeaveInAnyOrder) {
  for (const auto kind : {LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox}) {
    const auto model = random_model({kind, "mlp", 6});
    const auto prompts = random_prompts(7, 24, 3);
    SamplingConfig config;
    config.max_new_tokens = 9;
    PrefixCache reader(*model);
    Generator generator(*model->language_model, config, kEnds);
    std::vector<std::vector<int64_t>> answers(prompts.size());
    for (size_t next = 0; next < prompts.size() || generator.size() > 0;) {
      for (size_t joining = next % 4; next < prompts.size() && joining > 0; --joining, ++next)  // 0 to 3 a step
        generator.add(static_cast<int64_t>(next), reader.read(prompts[next]));
      if (next % 4 == 0 && next < prompts.size()) {
        generator.add(static_cast<int64_t>(next), reader.read(prompts[next]));
        ++next;
      }
      for (const auto& token : generator.step()) answers[static_cast<size_t>(token.sequence)].push_back(token.id);
    }
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(answers[i], alone(*model, prompts[i], config)) << i;
  }
}

TEST(Generator, StopsAtTheEndTokenAndAtTheLimit) {
  const auto model = random_model({LanguageKind::kMamba, "mlp", 8});
  SamplingConfig config;
  config.max_new_tokens = 6;
  const auto answer = [&](int64_t end) {
    PrefixCache reader(*model->language_model);
    Generator generator(*model->language_model, config, {end});
    return generate(reader, generator, {{{3, 4}, {}}}).front();
  };
  const auto free = answer(-1);
  EXPECT_EQ(free.size(), 6u);
  const auto stopped = answer(free[2]);
  EXPECT_EQ(stopped.back(), free[2]);
  EXPECT_LE(stopped.size(), 3u);
  config.max_new_tokens = 1;
  EXPECT_EQ(answer(-1), std::vector<int64_t>{free[0]});
}

TEST(Cache, ALongSequenceLeavesNoMemoryBehind) {
  const c10::AutoGradMode no_grad(false);
  const std::vector<int64_t> many(90, 4), few{5, 6, 7, 8, 9};
  for (const auto kind : {LanguageKind::kMamba, LanguageKind::kMamba2, LanguageKind::kGptNeox}) {
    const auto model = random_model({kind, "mlp", 2});
    const auto& language = *model->language_model;
    PrefixCache reader(language);
    const PromptState longer = reader.read({many, {}}), shorter = reader.read({few, {}});
    Cache left = Cache::join({longer.cache, shorter.cache}).select(at::tensor({1}, at::kLong)),
          own = shorter.cache.clone();
    const Tensor next = language.embed(at::tensor({3}, at::kLong));
    EXPECT_TRUE(at::equal(language.step(next, left), language.step(next, own)));
    EXPECT_EQ(left.bytes(), own.bytes());
    if (kind != LanguageKind::kGptNeox) {
      EXPECT_EQ(longer.cache.bytes(), shorter.cache.bytes());
    }
  }
}

TEST(PrefixCache, ReadsWhatIsSharedOnceWithinItsMemory) {
  const auto model = random_model({LanguageKind::kMamba, "vss_l2", 9});
  const auto picture = random_prompts(1, 1, 1, /*all_shown=*/true).front().pictures.front();
  const int64_t patches = model->vision_encoder->num_patches();
  PrefixCache reader(*model);
  for (const int64_t id : {5, 6, 7}) reader.read({{3, kImageToken, id, id}, {picture}});
  EXPECT_EQ(reader.counts().pictures, 1);
  EXPECT_EQ(reader.counts().positions, 1 + patches + 3 * 2);
  EXPECT_EQ(reader.counts().shared, 2 * (1 + patches));
  // Another beginning: the picture's embeddings still serve.
  reader.read({{4, kImageToken, 5}, {picture}});
  EXPECT_EQ(reader.counts().pictures, 1);
  // Without memory only the latest is there.
  const auto other = std::make_shared<Picture>(std::vector<float>(picture->pixels.size(), 0.5f));
  PrefixCache small(*model, 0);
  for (const PicturePtr& shown : {picture, picture, PicturePtr(other), picture})
    small.read({{3, kImageToken, 5}, {shown}});
  EXPECT_EQ(small.counts().pictures, 3);
  EXPECT_EQ(small.counts().shared, 1 + patches);
}

TEST(PrefixCache, CutsPromptsByWhatStandsBefore) {
  std::vector<int64_t> ids(200, 1);
  ids[10] = ids[11] = kImageToken;
  EXPECT_EQ(piece_ends(ids), (std::vector<size_t>{11, 12, 76, 140, 200}));
  EXPECT_EQ(piece_ends({1, kImageToken}), std::vector<size_t>{2});
  EXPECT_TRUE(piece_ends({}).empty());
}

TEST(PrefixCache, RefusesPromptsThatDoNotFitTheirPictures) {
  const auto model = random_model({LanguageKind::kMamba, "mlp", 1});
  PrefixCache reader(*model);
  EXPECT_THROW(reader.read({}), Error);
  EXPECT_THROW(reader.read({{1, kImageToken}, {}}), Error);
  EXPECT_THROW(reader.read({{1}, {std::make_shared<Picture>(std::vector<float>(3 * 8 * 8))}}), Error);
}

TEST(Sampling, DrawsWithTheProbabilitiesOfTheLogits) {
  const Tensor logits = at::tensor({0.0, 1.0, 2.0, -1.0}, at::kDouble).view({1, 4});
  const Tensor expected = at::softmax(logits[0] / 0.8, -1);
  SamplingConfig config;
  config.temperature = 0.8;
  std::vector<int> counts(4);
  constexpr int kDraws = 20000;
  for (int64_t i = 0; i < kDraws; ++i)
    ++counts[static_cast<size_t>(choose_tokens(logits, config, 1, {{i, 0}}).front())];
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_NEAR(counts[static_cast<size_t>(i)] / double{kDraws}, expected[i].item<double>(), 0.012) << i;
  config.top_k = 2;
  for (int64_t i = 0; i < 500; ++i) EXPECT_GE(choose_tokens(logits, config, 1, {{i, 0}}).front(), 1);
  config.top_k = 0, config.top_p = 0.5;
  for (int64_t i = 0; i < 500; ++i) EXPECT_EQ(choose_tokens(logits, config, 1, {{i, 0}}).front(), 2);
}

}  // namespace
}  // namespace vlmamba
