#include "vlmamba/train/nonfinite.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "vlmamba/io/json.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/nn/forward_trace.h"

namespace vlmamba {
namespace {

using at::Tensor;
using io::Json;

constexpr const char* kBatches = "batches.safetensors";
constexpr const char* kAbout = "nonfinite.json";

std::string share(int64_t non_finite, int64_t values) {
  return std::to_string(non_finite) + " of " + std::to_string(values) + " values are not finite";
}

double parse_value(const std::string& text, const std::string& where) {
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf" || text == "-inf") return std::numeric_limits<double>::infinity() * (text == "inf" ? 1 : -1);
  throw Error(ExitCode::kWeights, where, "value: expected nan, inf or -inf, got \"" + text + "\"");
}

// The tensors of a batch under the names of its members.
template <typename BatchType, typename Visit>
void visit_tensors(BatchType& batch, const Visit& visit) {
  visit("pixel_values", batch.pixel_values);
  visit("input_ids", batch.input_ids);
  visit("labels", batch.labels);
  visit("seq_idx", batch.seq_idx);
}

}  // namespace

std::string first_non_finite_gradient(const torch::nn::Module& model) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : named_parameters(model)) {
    const Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    const auto wrong = gradient.isfinite().logical_not().sum().item<int64_t>();
    if (wrong > 0) return "the gradient of " + name + ", where " + share(wrong, gradient.numel());
  }
  return "";
}

std::string first_non_finite(const VlMamba& model, const StepBatches& batches,
                             const std::function<void(const Batch&)>& forward) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < batches.micro_batches.size(); ++i) {
    const nn::ForwardTrace trace(model);
    forward(batches.micro_batches[i]);
    if (const auto& found = trace.first_non_finite())
      return "the output of " + (found->module.empty() ? std::string("the model") : found->module) + " (" + found->op +
             ") in micro-batch " + std::to_string(i) + ", where " + share(found->non_finite, found->values);
  }
  return first_non_finite_gradient(model);
}

void write_nonfinite_step(const std::string& folder, io::CheckpointContent checkpoint, const NonFiniteStep& step,
                          const StepBatches& batches) {
  NamedTensors tensors;
  Json ids = Json::array();
  for (size_t i = 0; i < batches.micro_batches.size(); ++i) {
    const Batch& batch = batches.micro_batches[i];
    visit_tensors(batch, [&](const std::string& name, const Tensor& tensor) {
      if (tensor.defined()) tensors.emplace_back(std::to_string(i) + "." + name, tensor);
    });
    Json row = Json::array();
    for (const auto& id : batch.sample_ids) row.push(id);
    ids.push(std::move(row));
  }
  Json about = Json::object();
  about.set("stage", step.stage);
  about.set("step", step.step);
  about.set("seed", static_cast<int64_t>(step.seed));
  about.set("what", step.what);
  about.set("value", std::isnan(step.value) ? "nan" : step.value > 0 ? "inf" : "-inf");
  about.set("first", step.first);
  about.set("rank", step.rank);
  about.set("world", step.world);
  about.set("num_tokens", batches.num_tokens);
  about.set("sample_ids", std::move(ids));
  checkpoint.files[kBatches] = safetensors_content(tensors);
  checkpoint.files[kAbout] = io::content_of(about.to_string(2) + "\n");
  io::write_checkpoint(folder, checkpoint);
}

StoredStep read_nonfinite_step(const std::string& folder) {
  const std::string where = folder + "/" + kAbout;
  const Json about = io::read_json(where, ExitCode::kWeights);
  const auto member = [&](const char* key, Json::Kind kind) -> const Json& {
    return io::require(about, key, kind, where, ExitCode::kWeights);
  };
  const auto text = [&](const char* key) { return member(key, Json::Kind::kString).as_string(); };
  const auto number = [&](const char* key) { return member(key, Json::Kind::kInteger).as_integer(); };
  StoredStep stored{{text("stage"), number("step"), static_cast<uint64_t>(number("seed")), text("what"),
                     parse_value(text("value"), where), text("first"), number("rank"), number("world")},
                    {}};
  stored.batches.num_tokens = number("num_tokens");
  const io::WeightFiles files(folder + "/" + kBatches);
  const auto& rows = member("sample_ids", Json::Kind::kArray).items();
  for (size_t i = 0; i < rows.size(); ++i) {
    Batch& batch = stored.batches.micro_batches.emplace_back();
    for (const auto& id : rows[i].items()) batch.sample_ids.push_back(id.as_string());
    visit_tensors(batch, [&](const std::string& name, Tensor& tensor) {
      if (const auto* found = files.find(std::to_string(i) + "." + name)) tensor = read_tensor(*found);
    });
  }
  return stored;
}

}  // namespace vlmamba
