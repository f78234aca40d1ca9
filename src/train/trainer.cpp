#include "vlmamba/train/trainer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <cmath>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
#include "vlmamba/data/loader.h"
#include "vlmamba/train/lr_schedule.h"
#include "vlmamba/train/run_log.h"
#include "vlmamba/train/stage_summary.h"
#include "vlmamba/train/validation.h"

namespace vlmamba {
namespace {

using at::Tensor;
using io::Json;
using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::string text(const char* format, double value) {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

void check_batch(const StageConfig& stage) {
  if (stage.batch.global_batch % stage.batch.micro_batch != 0)
    throw Error(ExitCode::kUsage, "stages." + stage.name + ".batch.micro_batch",
                "expected a divisor of global_batch (" + std::to_string(stage.batch.global_batch) + "), got " +
                    std::to_string(stage.batch.micro_batch));
}

}  // namespace

Trainer::Trainer(VlMamba& model, const StageData& data, Setup setup)
    : model_(model),
      data_(data),
      setup_(std::move(setup)),
      total_steps_(planned_steps(setup_.stage, static_cast<int64_t>(data.training.size()))),
      optimizer_(model, setup_.stage.trainable, setup_.stage.optimizer),
      checkpoints_(setup_.folder, setup_.stage.name, total_steps_, setup_.companions) {
  check_batch(setup_.stage);
}

void Trainer::restore(int64_t step) { state_ = checkpoints_.read(step, model_, optimizer_); }

std::string Trainer::summary() const {
  return stage_summary(setup_.stage, model_, optimizer_, static_cast<int64_t>(data_.training.size()));
}

void Trainer::check_finite(double value, const std::string& what, const StepBatches& batches) const {
  if (std::isfinite(value)) return;
  std::string samples;
  for (const auto& batch : batches.micro_batches)
    for (const auto& id : batch.sample_ids)
      if (samples.size() < 200) samples += " " + id;
  throw Error(ExitCode::kNonFinite, "stage " + setup_.stage.name + ", step " + std::to_string(state_.step + 1),
              what + ": expected a finite number, got " + text("%g", value) +
                  "; the weights were not changed, samples:" + samples);
}

Trainer::StepResult Trainer::train_step(const StepBatches& batches) {
  optimizer_.zero_grad();
  double loss_sum = 0;
  for (const Batch& batch : batches.micro_batches) {
    const auto loss = model_.loss(batch);
    loss_sum += loss.loss_sum.item<double>();
    // Divided by the targets of the whole step, so that accumulation changes nothing.
    if (loss.loss_sum.requires_grad())
      torch::autograd::backward({loss.loss_sum / static_cast<double>(batches.num_tokens)}, {});
  }
  const double loss = loss_sum / static_cast<double>(batches.num_tokens);
  check_finite(loss, "loss", batches);
  const double norm = optimizer_.clip_gradients();
  check_finite(norm, "norm of the gradients", batches);
  optimizer_.step(lr_factor(setup_.stage.schedule, state_.step, total_steps_));
  return {loss, norm, batches.num_tokens, batches.num_images};
}

StageEnd Trainer::run() {
  const StageConfig& stage = setup_.stage;
  RunLog run_log(setup_.folder, state_.step);
  Loader loader(data_.training, data_.reader,
                Sampler(setup_.seed, setup_.stage_index, static_cast<int64_t>(data_.training.size())),
                {stage.batch.global_batch, stage.batch.micro_batch, stage.batch.loader_threads}, state_.step);
  log::Progress progress(stage.name, total_steps_, state_.step);
  while (state_.step < total_steps_) {
    const auto start = Clock::now();
    const StepBatches batches = loader.next();
    const double data_ms = milliseconds_since(start);
    const double factor = lr_factor(stage.schedule, state_.step, total_steps_);
    const StepResult result = train_step(batches);
    const double step_ms = milliseconds_since(start);
    ++state_.step;
    state_.tokens += result.num_tokens;
    state_.images += result.num_images;

    const bool last = state_.step == total_steps_;
    const bool validates = stage.validate_every > 0 && (last || state_.step % stage.validate_every == 0);
    if (last || validates || state_.step % stage.log_every == 0) {
      Json metrics = Json::object(), timing = Json::object();
      metrics.set("step", state_.step);
      metrics.set("epoch", static_cast<double>(state_.step * stage.batch.global_batch) /
                               static_cast<double>(data_.training.size()));
      metrics.set("loss", result.loss);
      metrics.set("grad_norm", result.grad_norm);
      metrics.set("lr", stage.optimizer.lr * factor);
      metrics.set("tokens", state_.tokens);
      metrics.set("images", state_.images);
      if (validates) {
        Json& losses = metrics.set("validation_loss", Json::object());
        for (const auto& [name, loss] : validation_losses(model_, data_, stage.batch.micro_batch))
          losses.set(name, loss);
      }
      timing.set("step", state_.step);
      timing.set("tokens_per_s", static_cast<double>(result.num_tokens) * 1000 / step_ms);
      timing.set("step_ms", step_ms);
      timing.set("data_ms", data_ms);
      run_log.write(metrics, timing);
    }
    const bool stops = !last && setup_.stop_requested();
    if (last || stops || (stage.checkpoint.every > 0 && state_.step % stage.checkpoint.every == 0))
      checkpoints_.write(model_, optimizer_, state_, stage.checkpoint.keep_last);
    progress.update(state_.step, "loss " + text("%.4f", result.loss));
    if (stops) return StageEnd::kStopped;
  }
  return StageEnd::kFinished;
}

}  // namespace vlmamba
