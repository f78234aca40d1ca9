#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/app/build.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/nn/forward_trace.h"
#include "vlmamba/train/mixed_precision.h"
#include "vlmamba/train/nonfinite.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::app {
namespace {

using Rows = std::vector<nn::ForwardTrace::Row>;

struct Options {
  std::string folder, device = "cpu", dtype = "float64";
  bool all = false;
};

// What one way of computing the step gave.
struct Replayed {
  Rows rows;
  double loss = 0;
  std::string first;
};

void add_rows(Rows& sums, const Rows& rows) {
  for (const auto& row : rows) {
    auto at = std::find_if(sums.begin(), sums.end(), [&](const auto& one) { return one.module == row.module; });
    if (at == sums.end()) {
      sums.push_back(row);
      continue;
    }
    at->max_abs = std::max(at->max_abs, row.max_abs);
    at->non_finite += row.non_finite;
    at->values += row.values;
  }
}

Batch moved(Batch batch, at::Device device) {
  for (at::Tensor* tensor : {&batch.pixel_values, &batch.input_ids, &batch.labels, &batch.seq_idx})
    if (tensor->defined()) *tensor = tensor->to(device);
  return batch;
}

// What the checkpoint itself holds was trained, what it refers to was frozen.
void let_train(VlMamba& model, const std::string& folder) {
  const io::WeightFiles trained(folder + "/model.safetensors");
  for (auto& [name, parameter] : named_parameters(model)) parameter.set_requires_grad(trained.find(name) != nullptr);
}

// The step again: every micro-batch forwards and backwards, each module's outputs watched.
Replayed replay_step(VlMamba& model, const StoredStep& stored, uint32_t stage, Precision precision, at::Device device) {
  Replayed result;
  const NonFiniteStep& step = stored.step;
  const StepBatches& batches = stored.batches;
  model.to(device);
  for (size_t i = 0; i < batches.micro_batches.size(); ++i) {
    const Batch batch = moved(batches.micro_batches[i], device);
    const int64_t of_step = static_cast<int64_t>(i) * step.world + step.rank;
    set_dropout_draw(model, dropout_draw(step.seed, stage, step.step - 1, of_step));
    at::Tensor loss;
    {
      const nn::ForwardTrace trace(model);
      loss = loss_in(precision, model, batch).loss_sum / static_cast<double>(batches.num_tokens);
      add_rows(result.rows, trace.rows());
      if (const auto& found = trace.first_non_finite(); found && result.first.empty())
        result.first = "the output of " + found->module + " (" + found->op + ")";
    }
    result.loss += loss.item<double>();
    if (loss.requires_grad()) torch::autograd::backward({loss}, {});
  }
  if (result.first.empty()) result.first = first_non_finite_gradient(model);
  return result;
}

void print_table(const Replayed& there, const Replayed& here, const std::string& left, const std::string& right,
                 bool all) {
  std::map<std::string, nn::ForwardTrace::Row> beside;
  for (const auto& row : here.rows) beside[row.module] = row;
  std::printf("%-56s %14s %10s   %14s %10s\n", "", left.c_str(), "", right.c_str(), "");
  std::printf("%-56s %14s %10s   %14s %10s\n", "module", "max |x|", "not finite", "max |x|", "not finite");
  for (const auto& row : there.rows) {
    const auto& other = beside[row.module];
    const bool differs = row.non_finite > 0 || other.non_finite > 0;
    if (all || differs)
      std::printf("%-56s %14.6g %10lld   %14.6g %10lld\n", row.module.empty() ? "(model)" : row.module.c_str(),
                  row.max_abs, static_cast<long long>(row.non_finite), other.max_abs,
                  static_cast<long long>(other.non_finite));
  }
  std::printf("%-56s %14.6g %10s   %14.6g\n", "loss", there.loss, "", here.loss);
}

ExitCode replay(const Options& options, const Extensions& extensions) {
  const StoredStep stored = read_nonfinite_step(options.folder);
  std::printf("%s: stage %s, step %lld: %s was %g\n", options.folder.c_str(), stored.step.stage.c_str(),
              static_cast<long long>(stored.step.step), stored.step.what.c_str(), stored.step.value);
  std::printf("first not finite then: %s\n", stored.step.first.empty() ? "nothing" : stored.step.first.c_str());
  LoadOptions load;
  load.keep_lora = true;
  const LoadedModel loaded = load_checkpoint(options.folder, extensions, {}, load);
  let_train(*loaded.model, options.folder);
  const auto& stages = loaded.config.stages;
  const auto stage =
      std::find_if(stages.begin(), stages.end(), [&](const auto& one) { return one.name == stored.step.stage; });
  if (stage == stages.end())
    throw Error(ExitCode::kWeights, options.folder,
                "expected stage " + stored.step.stage + " in config.json, got none of it");
  const auto run = [&](Precision precision, at::Device device) {
    return replay_step(*loaded.model, stored, static_cast<uint32_t>(stage - stages.begin()), precision, device);
  };
  const Replayed there = [&] {
    const FrozenWeights frozen(*loaded.model, stage->frozen_dtype);
    return run(stage->precision, at::Device(options.device));
  }();
  loaded.model->zero_grad();
  if (options.dtype == "float64") loaded.model->to(at::kDouble);
  const Replayed here = run(Precision::kFloat32, at::kCPU);
  const std::string trained = std::string(enum_name(stage->precision));
  print_table(there, here, trained + ", " + options.device, options.dtype + ", cpu", options.all);
  std::printf("first not finite, %s on %s: %s\n", trained.c_str(), options.device.c_str(),
              there.first.empty() ? "nothing" : there.first.c_str());
  std::printf("first not finite, %s on cpu: %s\n", options.dtype.c_str(),
              here.first.empty() ? "nothing" : here.first.c_str());
  std::printf("%s\n", there.first.empty() ? "not reproduced: all values are finite" : "reproduced");
  return ExitCode::kOk;
}

}  // namespace

Command add_replay(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("replay", "Repeat a step that was not finite, module by module");
  command->add_option("folder", options->folder, "RUN/STAGE/nonfinite_step_N, which training left")->required();
  command->add_option("--device", options->device, "where the step is repeated as it was trained")
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "of the CPU's column beside it: float32 or float64")
      ->check(CLI::IsMember({"float32", "float64"}))
      ->capture_default_str();
  command->add_flag("--all", options->all, "every module, not only those with values that are not finite");
  return {command, [options, &extensions] { return replay(*options, extensions); }};
}

}  // namespace vlmamba::app
