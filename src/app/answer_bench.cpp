#include "src/app/answer_bench.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "vlmamba/core/error.h"
#include "vlmamba/core/rng.h"
#include "vlmamba/core/tokens.h"
#include "vlmamba/infer/generator.h"

namespace vlmamba::app {
namespace {

using at::Tensor;
using Answers = std::vector<std::vector<int64_t>>;

// A ViT-S/16 at 224 pixels, 196 patches, and a Mamba of 28 million parameters.
ModelConfig model_config() {
  ModelConfig config;
  config.vision_encoder.image_size = 224;
  config.vision_encoder.patch_size = 16;
  config.vision_encoder.hidden_size = 384;
  config.vision_encoder.intermediate_size = 1536;
  config.vision_encoder.num_layers = 12;
  config.vision_encoder.num_heads = 6;
  config.vision_encoder.feature_layer = -2;
  config.language_model.vocab_size = 8192;
  config.language_model.hidden_size = 512;
  config.language_model.num_layers = 14;
  return config;
}

// As LLaVA asks: a system text of 36 ids, the picture, the question; pictures in turn, so that none is asked in a row.
std::vector<Prompt> make_prompts(const AnswerBench& bench, int64_t image_size, int64_t vocabulary) {
  Rng rng(1, RngPurpose::kInit);
  const auto ids = [&](int64_t count) {
    std::vector<int64_t> drawn;
    for (int64_t i = 0; i < count; ++i)
      drawn.push_back(static_cast<int64_t>(rng.below(static_cast<uint64_t>(vocabulary))));
    return drawn;
  };
  constexpr int64_t kSystem = 36;
  const auto system = ids(kSystem);
  std::vector<PicturePtr> pictures;
  for (int64_t i = 0; i < bench.pictures; ++i) {
    std::vector<float> pixels(static_cast<size_t>(3 * image_size * image_size));
    for (float& pixel : pixels) pixel = static_cast<float>(2 * rng.uniform() - 1);
    pictures.push_back(std::make_shared<Picture>(std::move(pixels)));
  }
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < bench.pictures * bench.questions; ++i) {
    Prompt prompt{system, {pictures[static_cast<size_t>(i % bench.pictures)]}};
    prompt.ids.push_back(kImageToken);
    for (const int64_t id : ids(bench.ids)) prompt.ids.push_back(id);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// The plain way, which knows nothing of the others: encoder, whole prompt, a row of its own.
std::vector<int64_t> answer_alone(const VlMamba& model, const Prompt& prompt, int64_t new_tokens) {
  Batch batch;
  std::vector<int64_t> ids;
  for (const int64_t id : prompt.ids)
    ids.insert(ids.end(), static_cast<size_t>(id == kImageToken ? model.vision_encoder->num_patches() : 1), id);
  batch.input_ids = at::tensor(ids, at::kLong).unsqueeze(0);
  const int64_t size = model_config().vision_encoder.image_size;
  batch.pixel_values = at::tensor(prompt.pictures[0]->pixels, at::kFloat).view({1, 3, size, size});
  Cache cache;
  Tensor hidden = model.language_model->forward(model.embed(batch), {}, &cache).select(1, batch.input_ids.size(1) - 1);
  std::vector<int64_t> answer;
  for (;;) {
    const Tensor token = model.language_model->head(hidden).argmax(-1);
    answer.push_back(token.item<int64_t>());
    if (static_cast<int64_t>(answer.size()) == new_tokens) return answer;
    hidden = model.language_model->step(model.language_model->embed(token), cache);
  }
}

Answers answer_shared(const VlMamba& model, const std::vector<Prompt>& prompts, const AnswerBench& bench,
                      int64_t batch) {
  SamplingConfig sampling;
  sampling.max_new_tokens = bench.new_tokens;
  PrefixCache reader(model);
  Generator generator(*model.language_model, sampling, {});
  return generate(reader, generator, prompts, static_cast<size_t>(batch));
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void run(const AnswerBench& bench) {
  const c10::AutoGradMode no_grad(false);
  const ModelConfig config = model_config();
  const auto model = build_model(config, 1);
  const auto prompts = make_prompts(bench, config.vision_encoder.image_size, config.language_model.vocab_size);
  answer_shared(*model, {prompts.front()}, bench, 1);  // what only the first time takes
  Answers alone, shared, together;
  const double plain = seconds_of([&] {
    for (const auto& prompt : prompts) alone.push_back(answer_alone(*model, prompt, bench.new_tokens));
  });
  const double sharing = seconds_of([&] { shared = answer_shared(*model, prompts, bench, 1); });
  const double batched = seconds_of([&] { together = answer_shared(*model, prompts, bench, bench.batch); });
  if (shared != together)
    throw Error(ExitCode::kInternal, "bench", "expected the answers of each alone in a batch, got others");
  const auto equal = std::count_if(alone.begin(), alone.end(), [&](const auto& answer) {
    return answer == together[static_cast<size_t>(&answer - alone.data())];
  });
  std::printf("%zu questions of %lld ids on %lld pictures of %lld patches, answers of %lld tokens\n\n", prompts.size(),
              static_cast<long long>(bench.ids), static_cast<long long>(bench.pictures),
              static_cast<long long>(model->vision_encoder->num_patches()), static_cast<long long>(bench.new_tokens));
  std::printf("%-36s %10s %12s %8s\n", "", "seconds", "questions/s", "faster");
  const auto row = [&](const std::string& name, double seconds) {
    std::printf("%-36s %10.2f %12.1f %7.1fx\n", name.c_str(), seconds, static_cast<double>(prompts.size()) / seconds,
                plain / seconds);
  };
  row("one by one, nothing shared", plain);
  row("pictures shared, one by one", sharing);
  row("pictures shared, batches of " + std::to_string(bench.batch), batched);
  std::printf("\nShared answers are the same alone and in batches; %lld of %zu are those of nothing shared.\n",
              static_cast<long long>(equal), prompts.size());
}

}  // namespace vlmamba::app
