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
#include "vlmamba/train/loss_spike.h"
#include "vlmamba/train/lr_schedule.h"
#include "vlmamba/train/mixed_precision.h"
#include "vlmamba/train/nonfinite.h"
#include "vlmamba/train/run_log.h"
#include "vlmamba/train/sample_log.h"
#include "vlmamba/train/stage_summary.h"
#include "vlmamba/train/trainable.h"
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

std::string samples_of(const StepBatches& batches) {
  constexpr size_t kShown = 200;
  std::string samples;
  for (const auto& batch : batches.micro_batches)
    for (const auto& id : batch.sample_ids)
      if (samples.size() < kShown) samples += " " + id;
  return samples + (samples.size() < kShown ? "" : " …");
}

// Lets train, and add LoRA, as the stage says; what an earlier one added becomes part of the weights.
VlMamba& prepared(VlMamba& model, const Trainer::Setup& setup) {
  merge_lora(model);
  set_trainable(model, setup.stage.trainable, setup.seed + setup.stage_index);
  model.set_recompute(setup.stage.recompute_every);
  return model;
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

}  // namespace

Trainer::Trainer(VlMamba& model, const StageData& data, Setup setup)
    : model_(prepared(model, setup)),
      data_(data),
      setup_(std::move(setup)),
      total_steps_(planned_steps(setup_.stage, data.epoch_size)),
      optimizer_(model, setup_.stage.optimizer),
      checkpoints_(setup_.folder, setup_.stage.name, total_steps_, setup_.companions) {
  check_batch(setup_.stage, setup_.comm->size());
  optimizer_.distribute(model, *setup_.comm, setup_.distributed.bucket_mib << 20);
}

void Trainer::restore(int64_t step) {
  state_ = checkpoints_.read(step, model_, optimizer_);
  if (setup_.comm->is_first()) checkpoints_.continue_from(step);
}

std::string Trainer::summary() const { return stage_summary(setup_.stage, model_, optimizer_, data_.epoch_size); }

// Stops before the weights change, and leaves the step behind for `vlmamba replay`.
void Trainer::check_finite(double value, const std::string& what, const StepBatches& batches) {
  if (std::isfinite(value)) return;
  Comm& comm = *setup_.comm;
  const int64_t number = state_.step + 1;
  const NonFiniteStep step{
      setup_.stage.name,
      number,
      setup_.seed,
      what,
      value,
      first_non_finite(
          model_, batches,
          [&](const Batch& batch) { loss_of(batches, static_cast<size_t>(&batch - batches.micro_batches.data())); }),
      comm.rank(),
      comm.size()};
  std::string folder = setup_.folder + "/nonfinite_step_" + std::to_string(number);
  if (!comm.is_first()) folder += "_rank_" + std::to_string(comm.rank());
  std::string hint = "look at it with: vlmamba replay " + folder;
  const FrozenWeights::Unrounded whole(*frozen_);
  optimizer_.collect_state();
  for (int64_t rank = 0; rank < comm.size(); ++rank) {  // all come here alike; a launcher ends all when one has ended
    if (rank == comm.rank()) try {
        write_nonfinite_step(folder, checkpoints_.content(model_, optimizer_, state_), step, batches);
      } catch (const Error& error) {
        hint = std::string("it could not be kept: ") + error.what();
      }
    comm.barrier();
  }
  throw Error(ExitCode::kNonFinite, "stage " + step.stage + ", step " + std::to_string(number),
              what + ": expected a finite number, got " + text("%g", value) +
                  "; first not finite: " + (step.first.empty() ? "nothing when repeated" : step.first) +
                  "; the weights were not changed, samples:" + samples_of(batches) + "\n  " + hint);
}

bool Trainer::stop_requested_anywhere() const { return setup_.comm->max({setup_.stop_requested() ? 1.0 : 0.0})[0] > 0; }

void Trainer::compare_ranks(bool all_parameters) const {
  NamedTensors tensors = named_parameters(model_);
  if (!all_parameters) std::erase_if(tensors, [](const auto& named) { return !named.second.requires_grad(); });
  compare_replicas(*setup_.comm, tensors, "stage " + setup_.stage.name + ", step " + std::to_string(state_.step));
}

VlMamba::Loss Trainer::loss_of(const StepBatches& batches, size_t index) {
  const Comm& comm = *setup_.comm;
  const int64_t of_step = static_cast<int64_t>(index) * comm.size() + comm.rank();
  set_dropout_draw(model_, dropout_draw(setup_.seed, setup_.stage_index, state_.step, of_step));
  return loss_in(setup_.stage.precision, model_, batches.micro_batches[index]);
}

Trainer::StepResult Trainer::train_step(const StepBatches& batches, StepTiming& timing) {
  Comm& comm = *setup_.comm;
  const auto counts = comm.sum({static_cast<double>(batches.num_tokens), static_cast<double>(batches.num_images)});
  optimizer_.zero_grad();
  double loss_sum = 0;
  for (size_t i = 0; i < batches.micro_batches.size(); ++i) {
    if (i + 1 == batches.micro_batches.size()) optimizer_.sum_in_next_backward();
    const auto loss = timing.phase("forward", [&] {
      auto of_batch = loss_of(batches, i);
      loss_sum += of_batch.loss_sum.item<double>();
      return of_batch;
    });
    // Divided by the targets of the whole step on all ranks, so that neither accumulation nor their number changes
    // anything.
    if (loss.loss_sum.requires_grad())
      timing.phase("backward", [&] { torch::autograd::backward({loss.loss_sum / counts[0]}, {}); });
  }
  set_dropout_draw(model_, std::nullopt);
  timing.phase("backward", [&] { optimizer_.finish_gradients(); });
  const double loss = comm.sum(std::vector<double>{loss_sum})[0] / counts[0];
  check_finite(loss, "loss", batches);
  const double norm = timing.phase("backward", [&] { return optimizer_.clip_gradients(); });  // waits for the GPU
  check_finite(norm, "norm of the gradients", batches);
  timing.phase("optimizer", [&] { optimizer_.step(lr_factor(setup_.stage.schedule, state_.step, total_steps_)); });
  return {loss, norm, static_cast<int64_t>(counts[0]), static_cast<int64_t>(counts[1])};
}

// A full disk stops a run only where it would lose work: training goes on, and the next checkpoint is tried again.
void Trainer::save(RunLog* run_log, bool must) {
  optimizer_.collect_state();
  if (run_log == nullptr) return;  // not rank 0
  try {
    run_log->sync();
    const auto start = Clock::now();
    const uint64_t bytes = checkpoints_.write(model_, optimizer_, state_, setup_.stage.checkpoint);
    log::info("checkpoint of step " + std::to_string(state_.step) + ": " +
              text("%.1f MB in ", 1e-6 * static_cast<double>(bytes)) +
              text("%.2f s", 1e-3 * milliseconds_since(start)));
  } catch (const Error& error) {
    if (must || error.code() != ExitCode::kIo) throw;
    log::warn(std::string(error.what()) + "; training goes on, the next checkpoint is tried again");
  }
}

Json Trainer::metrics_line(const StepResult& result, double lr_factor) const {
  const StageConfig& stage = setup_.stage;
  Json metrics = Json::object();
  metrics.set("step", state_.step);
  metrics.set("epoch",
              static_cast<double>(state_.step * stage.batch.global_batch) / static_cast<double>(data_.epoch_size));
  metrics.set("loss", result.loss);
  metrics.set("grad_norm", result.grad_norm);
  metrics.set("lr", stage.optimizer.lr * lr_factor);
  metrics.set("tokens", state_.tokens);
  metrics.set("images", state_.images);
  metrics.set("samples", io::write_config(state_.samples));
  return metrics;
}

// The losses by set; their mean becomes the state's.
Json Trainer::validate() {
  Json losses = Json::object();
  double sum = 0;
  for (const auto& [name, loss] :
       validation_losses(model_, data_, setup_.stage.batch.micro_batch, setup_.stage.precision, *setup_.comm)) {
    losses.set(name, loss);
    sum += loss;
  }
  if (!losses.members().empty()) state_.validation_loss = sum / static_cast<double>(losses.members().size());
  return losses;
}

StageEnd Trainer::run() {
  frozen_.emplace(model_, setup_.stage.frozen_dtype);
  const StageEnd end = run_steps();
  frozen_.reset();
  return end;
}

StageEnd Trainer::run_steps() {
  const StageConfig& stage = setup_.stage;
  Comm& comm = *setup_.comm;
  std::optional<RunLog> run_log;
  if (comm.is_first()) run_log.emplace(setup_.folder, state_.step);
  compare_ranks(/*all_parameters=*/true);
  Loader loader(data_.training_reader(), stage_sampler(data_, stage.batch, setup_.seed, setup_.stage_index),
                {.global_batch = stage.batch.global_batch,
                 .micro_batch = stage.batch.micro_batch,
                 .threads = stage.batch.loader_threads,
                 .rank = comm.rank(),
                 .world = comm.size(),
                 .packing = stage.batch.packing,
                 .pin_memory = model_.device().is_cuda()},
                state_.step);
  SampleLog sample_log(data_.policy, data_.left_out);
  StepTiming timing(model_, setup_.flops, stage.peak_tflops);
  Profile profile(comm.is_first() ? stage.profile : ProfileConfig{}, setup_.folder + "/profile.json");
  log::Progress progress(stage.name, total_steps_, state_.step);
  while (state_.step < total_steps_) {
    profile.before_step(state_.step + 1);
    const StepBatches batches = timing.phase("data", [&] { return loader.next(); });
    sample_log.add(batches, comm, state_.samples);
    const double factor = lr_factor(stage.schedule, state_.step, total_steps_);
    const StepResult result = train_step(batches, timing);
    ++state_.step;
    profile.after_step(state_.step);
    const StepSize size = size_of(batches.micro_batches);
    const auto all = comm.sum({size.pictures, size.positions, size.targets});
    Json times = timing.line(state_.step, size, {all[0], all[1], all[2]});
    state_.tokens += result.num_tokens;
    state_.images += result.num_images;
    if (const auto spiked = loss_spike(stage.loss_spike, result.loss, state_.recent_losses))
      log::warn("step " + std::to_string(state_.step) + ": " + *spiked + "; samples:" + samples_of(batches));

    const bool last = state_.step == total_steps_;
    const bool due = last || (stage.checkpoint.every > 0 && state_.step % stage.checkpoint.every == 0);
    const bool validates = (stage.validate_every > 0 && (last || state_.step % stage.validate_every == 0)) ||
                           (due && stage.checkpoint.keep_best == KeepBest::kValidationLoss);
    state_.validation_loss.reset();
    const bool logs = last || validates || state_.step % stage.log_every == 0;
    if (logs) {
      Json metrics = metrics_line(result, factor);
      if (validates) metrics.set("validation_loss", timing.phase("validate", [&] { return validate(); }));
      if (run_log) run_log->write_metrics(metrics);
    }
    if (setup_.distributed.compare_every > 0 && state_.step % setup_.distributed.compare_every == 0)
      compare_ranks(/*all_parameters=*/false);
    const bool stops = stop_requested_anywhere() && !last;
    const auto save_start = Clock::now();
    if (due || stops) {
      const FrozenWeights::Unrounded whole(*frozen_);
      timing.phase("save", [&] { save(run_log ? &*run_log : nullptr, last || stops); });
    }
    if (run_log && logs) {
      times.set("save_ms", due || stops ? milliseconds_since(save_start) : 0.0);
      run_log->write_timing(times);
    }
    if (run_log && (last || stops)) run_log->finish();
    if (last || stops) comm.barrier();  // a launcher ends all when one rank has ended
    progress.update(state_.step, "loss " + text("%.4f", result.loss));
    if (stops) return StageEnd::kStopped;
  }
  return StageEnd::kFinished;
}

}  // namespace vlmamba
