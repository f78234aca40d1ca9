#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/app/build.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/nn/forward_trace.h"
#include "vlmamba/train/nonfinite.h"

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
Replayed replay_step(VlMamba& model, const StepBatches& batches, at::Device device) {
  Replayed result;
  model.to(device);
  for (const Batch& stored : batches.micro_batches) {
    const Batch batch = moved(stored, device);
    at::Tensor loss;
    {
      const nn::ForwardTrace trace(model);
      loss = model.loss(batch).loss_sum / static_cast<double>(batches.num_tokens);
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
  const auto run = [&](at::ScalarType type, at::Device device) {
    LoadOptions load;
    load.type = type;
    const LoadedModel loaded = load_checkpoint(options.folder, extensions, {}, load);
    let_train(*loaded.model, options.folder);
    if (type == at::kDouble) loaded.model->to(type);
    return replay_step(*loaded.model, stored.batches, device);
  };
  const Replayed there = run(at::kFloat, at::Device(options.device));
  const bool twice = options.dtype == "float64";
  const Replayed here = run(twice ? at::kDouble : at::kFloat, at::kCPU);
  print_table(there, here, "float32, " + options.device, options.dtype + ", cpu", options.all);
  std::printf("first not finite, float32 on %s: %s\n", options.device.c_str(),
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
