#include "vlmamba/train/trainer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>
#include <cmath>
#include <optional>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
#include "vlmamba/dist/replicas.h"
#include "vlmamba/io/config.h"
#include "vlmamba/train/lr_schedule.h"
#include "vlmamba/train/run_log.h"
#include "vlmamba/train/sample_log.h"
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

void check_batch(const StageConfig& stage, int64_t ranks) {
  if (stage.batch.global_batch % stage.batch.micro_batch != 0)
    throw Error(ExitCode::kUsage, "stages." + stage.name + ".batch.micro_batch",
                "expected a divisor of global_batch (" + std::to_string(stage.batch.global_batch) + "), got " +
                    std::to_string(stage.batch.micro_batch));
  if (stage.batch.global_batch % (stage.batch.micro_batch * ranks) != 0)
    throw Error(ExitCode::kUsage, "stages." + stage.name + ".batch.global_batch",
                "expected a multiple of micro_batch x processes (" + std::to_string(stage.batch.micro_batch) + " x " +
                    std::to_string(ranks) + "), got " + std::to_string(stage.batch.global_batch));
}

SampleCounts of_all_ranks(Comm& comm, const SampleCounts& own) {
  const auto count = [](int64_t number) { return static_cast<double>(number); };
  const auto sum =
      comm.sum({count(own.read), count(own.skipped), count(own.cut), count(own.dropped), count(own.untrained)});
  const auto total = [&](size_t i) { return static_cast<int64_t>(sum[i]); };
  return {total(0), total(1), total(2), total(3), total(4)};
}

}  // namespace

Trainer::Trainer(VlMamba& model, const StageData& data, Setup setup)
    : model_(model),
      data_(data),
      setup_(std::move(setup)),
      total_steps_(planned_steps(setup_.stage, data.epoch_size)),
      optimizer_(model, setup_.stage.trainable, setup_.stage.optimizer),
      checkpoints_(setup_.folder, setup_.stage.name, total_steps_, setup_.companions) {
  check_batch(setup_.stage, setup_.comm->size());
  optimizer_.distribute(model, *setup_.comm, setup_.distributed.bucket_mib << 20);
}

void Trainer::restore(int64_t step) { state_ = checkpoints_.read(step, model_, optimizer_); }

std::string Trainer::summary() const { return stage_summary(setup_.stage, model_, optimizer_, data_.epoch_size); }

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

bool Trainer::stop_requested_anywhere() const { return setup_.comm->max({setup_.stop_requested() ? 1.0 : 0.0})[0] > 0; }

void Trainer::compare_ranks(bool all_parameters) const {
  NamedTensors tensors = named_parameters(model_);
  if (!all_parameters) std::erase_if(tensors, [](const auto& named) { return !named.second.requires_grad(); });
  compare_replicas(*setup_.comm, tensors, "stage " + setup_.stage.name + ", step " + std::to_string(state_.step));
}

Trainer::StepResult Trainer::train_step(const StepBatches& batches) {
  Comm& comm = *setup_.comm;
  const auto counts = comm.sum({static_cast<double>(batches.num_tokens), static_cast<double>(batches.num_images)});
  optimizer_.zero_grad();
  double loss_sum = 0;
  for (const Batch& batch : batches.micro_batches) {
    if (&batch == &batches.micro_batches.back()) optimizer_.sum_in_next_backward();
    const auto loss = model_.loss(batch);
    loss_sum += loss.loss_sum.item<double>();
    // Divided by the targets of the whole step on all ranks, so that neither accumulation nor their number changes
    // anything.
    if (loss.loss_sum.requires_grad()) torch::autograd::backward({loss.loss_sum / counts[0]}, {});
  }
  optimizer_.finish_gradients();
  const double loss = comm.sum(std::vector<double>{loss_sum})[0] / counts[0];
  check_finite(loss, "loss", batches);
  const double norm = optimizer_.clip_gradients();
  check_finite(norm, "norm of the gradients", batches);
  optimizer_.step(lr_factor(setup_.stage.schedule, state_.step, total_steps_));
  return {loss, norm, static_cast<int64_t>(counts[0]), static_cast<int64_t>(counts[1])};
}

void Trainer::write_checkpoint() {
  optimizer_.collect_state();
  if (setup_.comm->is_first()) checkpoints_.write(model_, optimizer_, state_, setup_.stage.checkpoint.keep_last);
}

StageEnd Trainer::run() {
  const StageConfig& stage = setup_.stage;
  const Comm& comm = *setup_.comm;
  std::optional<RunLog> run_log;
  if (comm.is_first()) run_log.emplace(setup_.folder, state_.step);
  compare_ranks(/*all_parameters=*/true);
  Loader loader(data_.training_reader(), stage_sampler(data_, stage.batch, setup_.seed, setup_.stage_index),
                {.global_batch = stage.batch.global_batch,
                 .micro_batch = stage.batch.micro_batch,
                 .threads = stage.batch.loader_threads,
                 .rank = comm.rank(),
                 .world = comm.size(),
                 .packing = stage.batch.packing},
                state_.step);
  SampleLog sample_log(data_.policy, data_.left_out);
  log::Progress progress(stage.name, total_steps_, state_.step);
  while (state_.step < total_steps_) {
    const auto start = Clock::now();
    StepBatches batches = loader.next();
    batches.samples = of_all_ranks(*setup_.comm, batches.samples);
    const double data_ms = milliseconds_since(start);
    sample_log.add(batches, state_.samples);
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
      metrics.set("epoch",
                  static_cast<double>(state_.step * stage.batch.global_batch) / static_cast<double>(data_.epoch_size));
      metrics.set("loss", result.loss);
      metrics.set("grad_norm", result.grad_norm);
      metrics.set("lr", stage.optimizer.lr * factor);
      metrics.set("tokens", state_.tokens);
      metrics.set("images", state_.images);
      metrics.set("samples", io::write_config(state_.samples));
      if (validates) {
        Json& losses = metrics.set("validation_loss", Json::object());
        for (const auto& [name, loss] : validation_losses(model_, data_, stage.batch.micro_batch, *setup_.comm))
          losses.set(name, loss);
      }
      timing.set("step", state_.step);
      timing.set("tokens_per_s", static_cast<double>(result.num_tokens) * 1000 / step_ms);
      timing.set("step_ms", step_ms);
      timing.set("data_ms", data_ms);
      if (run_log) run_log->write(metrics, timing);
    }
    if (setup_.distributed.compare_every > 0 && state_.step % setup_.distributed.compare_every == 0)
      compare_ranks(/*all_parameters=*/false);
    const bool stops = stop_requested_anywhere() && !last;
    if (last || stops || (stage.checkpoint.every > 0 && state_.step % stage.checkpoint.every == 0)) write_checkpoint();
    if (last || stops) setup_.comm->barrier();  // a launcher ends all when one rank has ended
    progress.update(state_.step, "loss " + text("%.4f", result.loss));
    if (stops) return StageEnd::kStopped;
  }
  return StageEnd::kFinished;
}

}  // namespace vlmamba
