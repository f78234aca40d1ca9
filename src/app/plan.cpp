#include "src/app/plan.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <filesystem>

#include "vlmamba/core/log.h"
#include "vlmamba/data/record_file.h"
#include "vlmamba/data/sampler.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/train/lr_schedule.h"
#include "vlmamba/train/memory_estimate.h"
#include "vlmamba/train/optimizer.h"
#include "vlmamba/train/stage_summary.h"
#include "vlmamba/train/step_flops.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::app {
namespace {

__attribute__((format(printf, 1, 2))) std::string line(const char* format, ...) {
  char buffer[256];
  va_list values;
  va_start(values, format);
  std::vsnprintf(buffer, sizeof buffer, format, values);
  va_end(values);
  return std::string(buffer) + "\n";
}

std::string gib(int64_t bytes) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.2f", static_cast<double>(bytes) / (1 << 30));
  return buffer;
}

std::shared_ptr<VlMamba> build_on_meta(RunConfig& config, const Extensions& extensions) {
  for (std::string* path : {&config.model.vision_encoder.pretrained, &config.model.connector.pretrained,
                            &config.model.language_model.pretrained})
    path->clear();
  const nn::WithoutValues on_meta(at::kFloat, at::kMeta);
  return build_model(config.model, static_cast<uint64_t>(config.seed), extensions.connectors);
}

// Encoders are built without the blocks that do not run; what their authors publish has these, too.
std::string published_line(const VisionEncoderConfig& config) {
  VisionEncoderConfig whole = config;
  whole.feature_layer = -1;
  const nn::WithoutValues on_meta(at::kFloat, at::kMeta);
  const int64_t width = config.hidden_size, norm = 2 * width;
  int64_t count = norm;  // behind the last block
  for (const auto& parameter : make_vision_encoder(whole)->parameters()) count += parameter.numel();
  std::string out = line("  vision_encoder: the first %lld of %lld blocks; all of them, and the norm behind: %lld",
                         static_cast<long long>(config.used_layers()), static_cast<long long>(config.num_layers),
                         static_cast<long long>(count));
  if (config.kind != VisionKind::kSiglip) return out;
  const int64_t attention = 4 * width * (width + 1), mlp = 2 * width * config.intermediate_size;
  const int64_t head = width + attention + norm + mlp + config.intermediate_size + width;  // probe first
  out.pop_back();
  return out + line("; with SigLIP's pooling head: %lld", static_cast<long long>(count + head));
}

// Records of an epoch, by what the config expects, or else by the files that are there.
int64_t count_records(const StageConfig& stage) {
  int64_t count = 0;
  for (const auto& set : stage.data.sets) {
    int64_t records = set.expected_records;
    if (records == 0 && std::filesystem::exists(set.records))
      records = RecordFile(set.records).size();
    else if (records == 0)
      log::warn("stage " + stage.name + ": the records of " + set.records +
                " are not there yet, and expected_records is not given");
    count += records_of_epoch({std::max<int64_t>(0, records - stage.data.validation_records), set.weight});
  }
  return count;
}

std::string schedule_line(const StageConfig& stage, int64_t steps) {
  int64_t warm = 0;
  while (warm < steps && lr_factor(stage.schedule, warm, steps) < 1) ++warm;
  const bool falls = stage.schedule.kind != ScheduleKind::kConstant;
  return line("  schedule   %s: %lld steps of warm-up to %g%s", std::string(enum_name(stage.schedule.kind)).c_str(),
              static_cast<long long>(warm), stage.optimizer.lr,
              falls ? (", then down to 0 at step " + std::to_string(steps)).c_str() : "");
}

std::string numerics_line(const StageConfig& stage) {
  const std::string again =
      stage.recompute_every == 0 ? "no activations computed again"
      : stage.recompute_every == 1
          ? "all activations computed again"
          : "activations of every " + std::to_string(stage.recompute_every) + ". block computed again";
  return line("  numerics   %s, frozen matrices in %s, %s", std::string(enum_name(stage.precision)).c_str(),
              std::string(enum_name(stage.frozen_dtype)).c_str(), again.c_str());
}

// As the stage says, and for a language model that trains as a whole or with LoRA the other way, too.
std::string memory_lines(const RunConfig& config, VlMamba& model, const StageConfig& stage,
                         const Extensions& extensions) {
  std::string out =
      line("  memory     GiB of one process, %lld rows of %lld positions, one picture each:",
           static_cast<long long>(stage.batch.micro_batch), static_cast<long long>(stage.batch.max_length));
  out += line("  %-26s %9s %9s %9s %11s %9s", "", "weights", "gradients", "optimizer", "activations", "all");
  const auto row = [&](const std::string& name, const Trainable& trainable) {
    StageConfig variant = stage;
    variant.trainable = trainable;
    merge_lora(model);
    set_trainable(model, trainable, 0);
    const MemoryEstimate m = estimate_memory(config.model, model, variant, extensions.connectors);
    out += line("  %-26s %9s %9s %9s %11s %9s", name.c_str(), gib(m.weights).c_str(), gib(m.gradients).c_str(),
                gib(m.optimizer).c_str(), gib(m.activations).c_str(), gib(m.sum()).c_str());
  };
  const auto language = stage.trainable.parts.find("language_model");
  if (language != stage.trainable.parts.end()) {
    Trainable other = stage.trainable;
    auto& how = other.parts["language_model"];
    if (how.lora)
      how.lora.reset();
    else
      how.lora = LoraConfig{};
    row(how.lora ? "instead with LoRA, r 128" : "instead as a whole", other);
  }
  row("as configured", stage.trainable);
  return out;
}

std::string work_lines(const RunConfig& config, const VlMamba& model, const StageConfig& stage) {
  const auto length = static_cast<double>(stage.batch.max_length);
  const ForwardFlops forward = forward_flops(config.model, model, length);
  const double text = std::max(0.0, length - static_cast<double>(model.vision_encoder->num_patches()));
  const double record = step_flops(forward, model, {1, length, text});
  return line(
      "  work       %.3g TFLOP a record of %lld positions and one picture (the scans' %.1f %% of a block), "
      "%.3g TFLOP a step",
      record / 1e12, static_cast<long long>(stage.batch.max_length), 100 * forward.block.rest / forward.block.sum(),
      record * static_cast<double>(stage.batch.global_batch) / 1e12);
}

}  // namespace

std::string plan(RunConfig config, const std::vector<size_t>& chosen, const Extensions& extensions) {
  const auto model = build_on_meta(config, extensions);
  int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  std::string out = line("model: %lld parameters, %lld patches a picture", static_cast<long long>(parameters),
                         static_cast<long long>(model->vision_encoder->num_patches()));
  out += published_line(config.model.vision_encoder);
  for (const size_t i : chosen) {
    const StageConfig& stage = config.stages[i];
    const int64_t records = count_records(stage), steps = planned_steps(stage, records);
    merge_lora(*model);
    set_trainable(*model, stage.trainable, 0);
    const Optimizer optimizer(*model, stage.optimizer);
    out += stage_summary(stage, *model, optimizer, records) + "\n" + schedule_line(stage, steps) +
           numerics_line(stage) + memory_lines(config, *model, stage, extensions) + work_lines(config, *model, stage);
  }
  return out;
}

}  // namespace vlmamba::app
