#include "vlmamba/train/trainer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
#include "vlmamba/core/rng.h"
#include "vlmamba/data/collator.h"
#include "vlmamba/data/loader.h"
#include "vlmamba/train/lr_schedule.h"
#include "vlmamba/train/run_log.h"

namespace vlmamba {
namespace {

using at::Tensor;
using io::Json;
using Clock = std::chrono::steady_clock;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "state.json";

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::string text(const char* format, double value) {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

Json state_json(const TrainState& state, const std::string& stage, int64_t total_steps) {
  Json json = Json::object();
  json.set("stage", stage);
  json.set("step", state.step);
  json.set("total_steps", total_steps);
  json.set("tokens", state.tokens);
  json.set("images", state.images);
  return json;
}

TrainState read_state(const std::string& path) {
  const Json json = io::read_json(path, ExitCode::kWeights);
  const auto number = [&](const char* key) {
    return io::require(json, key, Json::Kind::kInteger, path, ExitCode::kWeights).as_integer();
  };
  return {number("step"), number("tokens"), number("images")};
}

void check_batch(const StageConfig& stage) {
  if (stage.batch.global_batch % stage.batch.micro_batch != 0)
    throw Error(ExitCode::kUsage, "stages." + stage.name + ".batch.micro_batch",
                "expected a divisor of global_batch (" + std::to_string(stage.batch.global_batch) + "), got " +
                    std::to_string(stage.batch.micro_batch));
}

}  // namespace

StageData read_stage_data(const DataConfig& config, ExampleReader reader, uint64_t seed) {
  StageData data{std::move(reader), {}, {}, {}};
  for (size_t set = 0; set < config.sets.size(); ++set) {
    auto records = read_records(config.sets[set].records, set);
    const auto count = static_cast<int64_t>(records.size());
    if (count <= config.validation_records)
      throw Error(ExitCode::kData, config.sets[set].records,
                  "expected more records than data.validation_records (" + std::to_string(config.validation_records) +
                      "), got " + std::to_string(count));
    const auto order = Rng(seed, RngPurpose::kSplit, set).permutation(count);
    std::vector<bool> held_out(records.size());
    for (int64_t i = 0; i < config.validation_records; ++i)
      held_out[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
    auto& validation = data.validation.emplace_back();
    for (size_t i = 0; i < records.size(); ++i)
      (held_out[i] ? validation : data.training).push_back(std::move(records[i]));
    data.set_names.push_back(config.sets[set].name.empty() ? std::to_string(set) : config.sets[set].name);
  }
  if (data.training.empty())
    throw Error(ExitCode::kUsage, "data.sets", "expected at least one set of records, got none");
  return data;
}

Trainer::Trainer(VlMamba& model, const StageData& data, Setup setup)
    : model_(model),
      data_(data),
      setup_(std::move(setup)),
      total_steps_(planned_steps(setup_.stage, static_cast<int64_t>(data.training.size()))),
      optimizer_(model, setup_.stage.trainable, setup_.stage.optimizer),
      checkpoints_(setup_.folder + "/checkpoints") {
  check_batch(setup_.stage);
}

void Trainer::restore(int64_t step) {
  const std::string folder = checkpoints_.step_path(step) + "/";
  const TrainState state = read_state(folder + kState);
  load_weights(model_, folder + kWeights);
  copy_weights(optimizer_.state(), io::WeightFiles(folder + kOptimizer));
  optimizer_.set_steps_done(state.step);
  state_ = state;
}

std::string Trainer::summary() const {
  const StageConfig& stage = setup_.stage;
  std::string out = "stage " + stage.name + ": " + std::to_string(total_steps_) + " steps of " +
                    std::to_string(stage.batch.global_batch) + " records (" +
                    std::to_string(stage.batch.global_batch / stage.batch.micro_batch) + " x " +
                    std::to_string(stage.batch.micro_batch) + "), " + std::to_string(data_.training.size()) +
                    " records\n";
  for (const auto& child : model_.named_children()) {
    int64_t count = 0;
    for (const auto& parameter : child.value()->parameters()) count += parameter.numel();
    const bool trains = std::find(stage.trainable.begin(), stage.trainable.end(), child.key()) != stage.trainable.end();
    char line[128];
    std::snprintf(line, sizeof line, "  %-16s %12lld parameters  %s\n", child.key().c_str(),
                  static_cast<long long>(count), trains ? "trains" : "frozen");
    out += line;
  }
  for (const auto& group : optimizer_.groups()) {
    char line[160];
    std::snprintf(line, sizeof line, "  group %-16s lr %-8g decay %-8g %4zu tensors, %lld parameters\n",
                  group.part.c_str(), group.lr, group.weight_decay, group.names.size(),
                  static_cast<long long>(group.num_elements()));
    out += line;
  }
  out.pop_back();
  return out;
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

std::map<std::string, double> Trainer::validate() const {
  const at::NoGradGuard no_grad;
  std::map<std::string, double> losses;
  for (size_t set = 0; set < data_.validation.size(); ++set) {
    double sum = 0;
    int64_t tokens = 0;
    const auto& records = data_.validation[set];
    const auto size = static_cast<size_t>(setup_.stage.batch.micro_batch);
    for (size_t first = 0; first < records.size(); first += size) {
      std::vector<Example> examples;
      std::vector<const Example*> row;
      for (size_t i = first; i < std::min(records.size(), first + size); ++i)
        examples.push_back(data_.reader.read(records[i]));
      for (const auto& example : examples) row.push_back(&example);
      const auto loss = model_.loss(collate(row, data_.reader.tokenizer.pad_id(), data_.reader.image_processor.size()));
      sum += loss.loss_sum.item<double>();
      tokens += loss.num_tokens;
    }
    if (tokens > 0) losses[data_.set_names[set]] = sum / static_cast<double>(tokens);
  }
  return losses;
}

void Trainer::write_checkpoint() const {
  std::map<std::string, std::function<std::string()>> files;
  files[kWeights] = [&] { return tensors_to_safetensors(named_parameters(model_)); };
  files[kOptimizer] = [&] { return tensors_to_safetensors(optimizer_.state()); };
  files[kState] = [&] { return state_json(state_, setup_.stage.name, total_steps_).to_string(2); };
  for (const auto& [name, bytes] : setup_.companions) files[name] = [&bytes] { return bytes; };
  checkpoints_.write(state_.step, files, setup_.stage.checkpoint.keep_last);
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
        for (const auto& [name, loss] : validate()) losses.set(name, loss);
      }
      timing.set("step", state_.step);
      timing.set("tokens_per_s", static_cast<double>(result.num_tokens) * 1000 / step_ms);
      timing.set("step_ms", step_ms);
      timing.set("data_ms", data_ms);
      run_log.write(metrics, timing);
    }
    const bool stops = !last && setup_.stop_requested();
    if (last || stops || (stage.checkpoint.every > 0 && state_.step % stage.checkpoint.every == 0)) write_checkpoint();
    progress.update(state_.step, "loss " + text("%.4f", result.loss));
    if (stops) return StageEnd::kStopped;
  }
  return StageEnd::kFinished;
}

}  // namespace vlmamba
