#include "tests/parity/golden.h"
#include "vlmamba/infer/generator.h"

namespace vlmamba {
namespace {

using namespace test;  // NOLINT: the words of this folder
using at::Tensor;

constexpr std::array kModels{"mamba",       "mamba_official",  "mamba_biases", "mamba2",
                             "mamba2_tied", "mamba2_official", "gpt_neox",     "gpt_neox_serial"};

Tensor logits(const app::ForeignModel& model, const Tensor& ids, const Tensor& mask = {}) {
  const auto& language = *model.language_model;
  const Tensor seq_idx = mask.defined() ? at::where(mask.ne(0), 0, -1).to(at::kInt) : Tensor();
  return language.head(language.forward(language.embed(ids), seq_idx)).to(at::kFloat);
}

TEST(LanguageParity, LogitsEqualTransformers) {
  const c10::AutoGradMode no_grad(false);
  for (const std::string name : kModels) {
    auto golden = golden_of(name);
    EXPECT_LT(difference(logits(load(name), golden["input_ids"]), golden["logits"]), kFp32) << name;
  }
}

TEST(LanguageParity, PaddedRowsEqualTransformersOnEitherSide) {
  const c10::AutoGradMode no_grad(false);
  for (const std::string name : kModels) {
    auto golden = golden_of(name);
    const auto model = load(name);
    for (const std::string side : {"right", "left"}) {
      const Tensor mask = golden["mask_" + side], real = mask.ne(0).unsqueeze(-1);
      const Tensor got = logits(model, golden["input_ids"], mask);
      EXPECT_LT(difference(got.masked_fill(~real, 0), golden["logits_" + side].masked_fill(~real, 0)), kFp32)
          << name << " " << side;
    }
  }
}

TEST(LanguageParity, Bf16IsWithinTwiceTheRoundingOfTransformers) {
  const c10::AutoGradMode no_grad(false);
  for (const std::string name : kModels) {
    auto golden = golden_of(name);
    const Tensor got = logits(load(name, at::kBFloat16), golden["input_ids"]);
    EXPECT_LE(largest(got, golden["logits"]), 2 * largest(golden["logits_bf16"], golden["logits"])) << name;
  }
}

TEST(LanguageParity, GreedyContinuationsAreIdentical) {
  for (const std::string name : kModels) {
    auto golden = golden_of(name);
    const auto model = load(name);
    const Tensor prompt = golden["prompt"].to(at::kLong).contiguous(), expected = golden["continuation"];
    SamplingConfig sampling;
    sampling.max_new_tokens = 14;
    PrefixCache reader(*model.language_model);
    Generator generator(*model.language_model, sampling, model.end_tokens);
    const auto* ids = prompt.const_data_ptr<int64_t>();
    const auto got = generate(reader, generator, {{{ids, ids + prompt.numel()}, {}}}).front();
    EXPECT_EQ(got, std::vector<int64_t>(expected.const_data_ptr<int64_t>(),
                                        expected.const_data_ptr<int64_t>() + expected.numel()))
        << name;
  }
}

TEST(LanguageParity, StepsAndBatchesOfPaddedPromptsEqualTheWholeSequence) {
  const c10::AutoGradMode no_grad(false);
  for (const std::string name : kModels) {
    auto golden = golden_of(name);
    const auto model = load(name);
    const auto& language = *model.language_model;
    const Tensor embeds = language.embed(golden["input_ids"]);
    // The second row's prompt is shorter; both continue with the same ids.
    Tensor seq_idx = at::zeros({2, 7}, at::kInt);
    seq_idx[1].slice(0, 4).fill_(-1);
    Cache cache;
    language.forward(embeds.slice(1, 0, 7), seq_idx, &cache);
    const Tensor whole = language.forward(embeds);
    const Tensor shorter =
        language.forward(at::cat({embeds.slice(0, 1).slice(1, 0, 4), embeds.slice(0, 1).slice(1, 7)}, 1));
    for (int64_t t = 7; t < 11; ++t) {
      const Tensor stepped = language.step(embeds.select(1, t), cache);
      EXPECT_LT(largest(stepped[0], whole[0][t]), 1e-4) << name << " " << t;
      EXPECT_LT(largest(stepped[1], shorter[0][t - 3]), 1e-4) << name << " " << t;
    }
  }
}

TEST(LanguageParity, PaddedIdsOfTheOfficialConfigAreNeverProduced) {
  const c10::AutoGradMode no_grad(false);
  const auto model = load("mamba_official", at::kFloat, /*padded_logits=*/false);
  const Tensor got = logits(model, golden_of("mamba_official")["input_ids"]);
  EXPECT_EQ(got.size(2), 40);
  EXPECT_TRUE(got.slice(2, 37).isinf().all().item<bool>());
  EXPECT_TRUE(got.slice(2, 0, 37).isfinite().all().item<bool>());
}

}  // namespace
}  // namespace vlmamba
