// Teaches the small vision encoder to name the digit under every patch, with a linear head that is thrown away. The
// encoder then stands for the pretrained CLIP or SigLIP of a real run. Also the smallest program that trains a part of
// the library on its own.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adamw.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <string>

#include "scene.h"
#include "vlmamba/app/run_config.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/config.h"
#include "vlmamba/model/vision_encoder.h"
#include "vlmamba/model/weights.h"

namespace {

using at::Tensor;
using quickstart::kSide;
using vlmamba::Rng;
using vlmamba::RngPurpose;

constexpr int64_t kBatch = 64;
constexpr int64_t kClasses = 11;  // nothing and ten digits
constexpr double kPeakRate = 2e-3;
constexpr double kWarmup = 0.05;

struct Lesson {
  Tensor pixels;  // [kBatch, 3, kSide, kSide], normalised to -1 .. 1
  Tensor names;   // [kBatch * P] int64: 0 = nothing, else digit + 1
};

Lesson make_lesson(const std::vector<quickstart::Digit>& digits, int64_t patches_per_side, uint64_t seed,
                   int64_t step) {
  Lesson lesson{at::empty({kBatch, 1, kSide, kSide}),
                at::empty({kBatch, patches_per_side, patches_per_side}, at::kLong)};
  float* pixels = lesson.pixels.mutable_data_ptr<float>();
  int64_t* names = lesson.names.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < kBatch; ++i) {
    Rng rng(seed, RngPurpose::kExample, static_cast<uint64_t>(step * kBatch + i), 4);
    const auto scene = quickstart::random_scene(rng);
    for (const uint8_t value : quickstart::draw(scene, digits, rng)) *pixels++ = static_cast<float>(value) / 127.5f - 1;
    for (int64_t y = 0; y < patches_per_side; ++y)
      for (int64_t x = 0; x < patches_per_side; ++x)
        *names++ = 1 + scene.cells[y * quickstart::kGrid / patches_per_side * quickstart::kGrid +
                                   x * quickstart::kGrid / patches_per_side];
  }
  lesson.pixels = lesson.pixels.expand({kBatch, 3, kSide, kSide});
  lesson.names = lesson.names.flatten();
  return lesson;
}

double rate(int64_t step, int64_t steps) {
  const double warmup = kWarmup * static_cast<double>(steps), now = static_cast<double>(step);
  if (now < warmup) return kPeakRate * (now + 1) / warmup;
  return kPeakRate * 0.5 * (1 + std::cos(std::numbers::pi * (now - warmup) / (static_cast<double>(steps) - warmup)));
}

struct Head {
  Tensor weight, bias;
  Tensor operator()(const Tensor& features) const { return at::linear(features.flatten(0, 1), weight, bias); }
};

double share_right(vlmamba::VisionEncoder& encoder, const Head& head, const std::vector<quickstart::Digit>& digits,
                   uint64_t seed) {
  const at::NoGradGuard no_grad;
  const auto lesson = make_lesson(digits, encoder.grid_width(), seed, /*step=*/1 << 20);
  return head(encoder.forward(lesson.pixels)).argmax(-1).eq(lesson.names).to(at::kDouble).mean().item<double>();
}

void teach(vlmamba::VisionEncoder& encoder, const std::string& path, int64_t steps, uint64_t seed) {
  const auto digits = quickstart::read_digits(path, quickstart::Part::kTraining);
  const auto unseen = quickstart::read_digits(path, quickstart::Part::kEvaluation);
  const Head head{at::randn({kClasses, encoder.feature_dim()}).mul_(0.02).requires_grad_(),
                  at::zeros({kClasses}).requires_grad_()};
  auto parameters = encoder.parameters();
  parameters.insert(parameters.end(), {head.weight, head.bias});
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(kPeakRate).weight_decay(0.01));
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < steps; ++step) {
    const auto lesson = make_lesson(digits, encoder.grid_width(), seed, step);
    for (auto& group : optimizer.param_groups())
      static_cast<torch::optim::AdamWOptions&>(group.options()).lr(rate(step, steps));
    const Tensor loss = at::cross_entropy_loss(head(encoder.forward(lesson.pixels)), lesson.names);
    optimizer.zero_grad();
    torch::autograd::backward({loss}, {});
    optimizer.step();
    if ((step + 1) % 100 == 0 || step + 1 == steps) {
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      std::printf("teach_encoder: step %lld/%lld  loss %.4f  unseen digits right %.1f %%  %.0f s\n",
                  static_cast<long long>(step + 1), static_cast<long long>(steps), loss.item<double>(),
                  100 * share_right(encoder, head, unseen, seed), elapsed.count());
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Teaches the vision encoder of a config to name the digit under every patch");
  std::string digits, config, output;
  uint64_t seed = 1;
  int64_t steps = 400;
  app.add_option("--digits", digits, "CSV file of the handwritten digits")->required();
  app.add_option("--config", config, "run config whose model.vision_encoder is taught")->required();
  app.add_option("--output", output, "safetensors file to write")->required();
  app.add_option("--seed", seed, "seed of weights and scenes");
  app.add_option("--steps", steps, "steps of 64 scenes");
  CLI11_PARSE(app, argc, argv);
  try {
    const auto run = vlmamba::io::read_config<vlmamba::RunConfig>(config, {});
    at::manual_seed(seed);
    const auto encoder = vlmamba::make_vision_encoder(run.model.vision_encoder);
    teach(*encoder, digits, steps, seed);
    vlmamba::save_weights(*encoder, output);
  } catch (const vlmamba::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
