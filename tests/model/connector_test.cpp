#include "vlmamba/model/connector.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>

#include "tests/ops/finite_difference.h"
#include "vlmamba/core/error.h"
#include "vlmamba/nn/mamba_mixer.h"
#include "vlmamba/nn/ss2d.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/reference.h"

namespace vlmamba {
namespace {

using at::Tensor;

constexpr int64_t kHeight = 2, kWidth = 3, kPatches = kHeight * kWidth, kFeatures = 6, kOut = 4;

double largest(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

struct Choice {
  nn::Scan scan;
  nn::Merge merge;
  nn::Block block;
  nn::Weights weights;
};

std::vector<Choice> all_choices() {
  std::vector<Choice> all;
  for (const auto& scan : enum_names(nn::Scan{}))
    for (const auto& merge : enum_names(nn::Merge{}))
      for (const auto& block : enum_names(nn::Block{}))
        for (const auto& weights : enum_names(nn::Weights{}))
          all.push_back({scan.value, merge.value, block.value, weights.value});
  return all;
}

ConnectorConfig config_of(const std::string& kind, const Choice& choice) {
  ConnectorConfig config;
  config.kind = kind;
  config.vss.scan = choice.scan, config.vss.merge = choice.merge;
  config.vss.block = choice.block, config.vss.weights = choice.weights;
  config.vss.d_state = 3;
  return config;
}

std::string name_of(const Choice& c) {
  return std::string(enum_name(c.scan)) + " " + std::string(enum_name(c.merge)) + " " +
         std::string(enum_name(c.block)) + " " + std::string(enum_name(c.weights));
}

// The parameters of a module below `prefix`, by what follows it.
std::map<std::string, Tensor> parameters_of(const torch::nn::Module& module, const std::string& prefix) {
  std::map<std::string, Tensor> found;
  for (const auto& parameter : module.named_parameters())
    if (parameter.key().starts_with(prefix)) found[parameter.key().substr(prefix.size())] = parameter.value();
  return found;
}

Tensor linear(const Tensor& x, const std::map<std::string, Tensor>& p, const std::string& name) {
  return at::linear(x, p.at(name + ".weight"), p.at(name + ".bias"));
}

// The paper's words: the sequences of the scan pass through one Mamba layer, return to patch order, and are merged.
// With weights of its own, a direction shares only the projections in and out.
Tensor scanned_by_mamba_layers(const torch::nn::Module& connector, const Tensor& x, const Choice& choice) {
  const std::string scan(enum_name(choice.scan));
  const Tensor sequences = ops::cross_scan(x, scan, kHeight, kWidth);  // [I,K,P,D]
  const int64_t directions = sequences.size(1), dim = x.size(2);
  std::vector<Tensor> outputs;
  for (int64_t k = 0; k < directions; ++k) {
    nn::MambaMixer layer({dim, 3, 4, 2, 0});
    auto values = parameters_of(connector, "vss.mamba.");
    if (choice.weights == nn::Weights::kPerDirection && k > 0)
      for (auto& [name, value] : parameters_of(connector, "vss.direction_" + std::to_string(k) + "."))
        values[name] = value;
    for (auto& parameter : layer.named_parameters()) parameter.value().copy_(values.at(parameter.key()));
    layer.to(x.scalar_type());
    Tensor only_this = at::zeros_like(sequences);
    only_this.select(1, k).copy_(layer.forward(sequences.select(1, k)));
    outputs.push_back(ops::cross_merge(only_this, scan, kHeight, kWidth));
  }
  switch (choice.merge) {
    case nn::Merge::kSum:
      return at::stack(outputs).sum(0);
    case nn::Merge::kMean:
      return at::stack(outputs).mean(0);
    case nn::Merge::kConcat:
      return linear(at::cat(outputs, -1), parameters_of(connector, "vss."), "concat");
  }
  return {};
}

Tensor layer_norm(const Tensor& x, const std::map<std::string, Tensor>& p) {
  return at::layer_norm(x, {x.size(2)}, p.at("norm.weight"), p.at("norm.bias"));
}

// V' = Linear(V); V_scan = VSS(GELU(V')); V_out = Linear(Norm(V_scan + V')).
Tensor vss_l2_formula(const Connector& connector, const Tensor& features, const Choice& choice) {
  const auto p = parameters_of(connector, "");
  const Tensor v = linear(features, p, "linear_in");
  return linear(layer_norm(scanned_by_mamba_layers(connector, at::gelu(v), choice) + v, p), p, "linear_out");
}

// V_out = MLP(Norm(VSS(V) + V)).
Tensor vss_mlp_formula(const Connector& connector, const Tensor& features, const Choice& choice) {
  const auto p = parameters_of(connector, "");
  const Tensor normed = layer_norm(scanned_by_mamba_layers(connector, features, choice) + features, p);
  return linear(at::gelu(linear(normed, p, "mlp.fc1")), p, "mlp.fc2");
}

// In place equals: cross_scan, Mamba layer, cross_merge, for every scan, merge and kind of weights.
TEST(Connector, EqualsThePapersFormulas) {
  at::manual_seed(5);
  const c10::AutoGradMode no_grad(false);
  for (const Choice& choice : all_choices()) {
    if (choice.block != nn::Block::kMamba || choice.scan == nn::Scan::kNone) continue;
    SCOPED_TRACE(name_of(choice));
    const Tensor features = at::randn({2, kPatches, kFeatures}, at::kDouble);
    for (const auto& [kind, formula] : {std::pair{"vss_l2", &vss_l2_formula}, {"vss_mlp", &vss_mlp_formula}}) {
      const auto connector = make_connector(config_of(kind, choice), {kFeatures, kOut, kHeight, kWidth});
      connector->to(at::kDouble);
      EXPECT_LT(largest(connector->forward(features), formula(*connector, features, choice)), 1e-12) << kind;
    }
  }
}

// VMamba's first SS2D: project, depthwise 3x3 convolution, one scan a direction with projections of its own, LayerNorm,
// gate, project.
Tensor ss2d_formula(const torch::nn::Module& block, const Tensor& x, std::string_view scan) {
  const auto p = parameters_of(block, "");
  const auto xz = at::linear(x, p.at("in_proj.weight")).chunk(2, -1);
  const int64_t inner = xz[0].size(2), states = p.at("A_logs").size(1), rank = p.at("dt_projs_weight").size(2);
  const Tensor map = xz[0].transpose(1, 2).reshape({x.size(0), inner, kHeight, kWidth});
  const Tensor convolved = at::silu(at::conv2d(map, p.at("conv2d.weight"), p.at("conv2d.bias"), 1, 1, 1, inner));
  const Tensor sequences = ops::cross_scan(convolved.flatten(2).transpose(1, 2), scan, kHeight, kWidth);
  std::vector<Tensor> outputs;
  for (int64_t k = 0; k < sequences.size(1); ++k) {
    const Tensor u = sequences.select(1, k);
    const auto parts = at::linear(u, p.at("x_proj_weight")[k]).split_with_sizes({rank, states, states}, -1);
    const auto rows = [&](const char* name) { return p.at(name).slice(0, k * inner, (k + 1) * inner); };
    outputs.push_back(std::get<0>(ops::reference::selective_scan(
        u, at::linear(parts[0], p.at("dt_projs_weight")[k]), -at::exp(rows("A_logs")), parts[1].unsqueeze(2),
        parts[2].unsqueeze(2), rows("Ds"), {}, p.at("dt_projs_bias")[k], true)));
  }
  const Tensor merged = ops::cross_merge(at::stack(outputs, 1), scan, kHeight, kWidth);
  const Tensor normed = at::layer_norm(merged, {inner}, p.at("out_norm.weight"), p.at("out_norm.bias"));
  return at::linear(normed * at::silu(xz[1]), p.at("out_proj.weight"));
}

TEST(Ss2d, EqualsVMambasFormulas) {
  at::manual_seed(8);
  for (const auto& [scan, directions] : {std::pair{"forward", 1}, {"bidirectional", 2}, {"cross", 4}}) {
    nn::Ss2d block(kFeatures, 3, 2, directions);
    block.to(at::kDouble);
    const Tensor x = at::randn({2, kPatches, kFeatures}, at::kDouble);
    EXPECT_LT(largest(block.forward(x, scan, kHeight, kWidth, /*mean=*/false, /*concat=*/false),
                      ss2d_formula(block, x, scan)),
              1e-12)
        << scan;
  }
}

TEST(Connector, UnknownKindNamesTheKnownOnes) {
  ConnectorConfig config;
  config.kind = "vss_l3";
  const std::map<std::string, ConnectorFactory> own{{"mean", nullptr}};
  try {
    make_connector(config, {6, 4, 2, 3}, own);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[model.connector.kind] expected one of mlp, vss_mlp, vss_l2, mean, got \"vss_l3\"");
  }
}

// The slope along one random direction of each parameter, against central differences in fp64.
void expect_parameter_gradients(Connector& connector, const Tensor& features) {
  const Tensor weights = at::randn_like(connector.forward(features));
  auto parameters = connector.named_parameters();
  const auto gradients = torch::autograd::grad({connector.forward(features)}, parameters.values(), {weights});
  const c10::AutoGradMode no_grad(false);
  const auto loss = [&] { return (connector.forward(features) * weights).sum().item<double>(); };
  for (size_t i = 0; i < parameters.size(); ++i) {
    Tensor parameter = parameters[i].value();
    const Tensor direction = at::randn_like(parameter), before = parameter.clone();
    constexpr double kStep = 1e-5;
    parameter.copy_(before + kStep * direction);
    const double above = loss();
    parameter.copy_(before - kStep * direction);
    const double below = loss();
    parameter.copy_(before);
    const double expected = (above - below) / (2 * kStep), got = (gradients[i] * direction).sum().item<double>();
    EXPECT_NEAR(got, expected, 1e-7 * (1 + std::abs(expected))) << parameters[i].key();
  }
}

TEST(Connector, EveryChoiceHasTheRightGradients) {
  at::manual_seed(6);
  for (const std::string kind : {"mlp", "vss_mlp", "vss_l2"})
    for (const Choice& choice : all_choices()) {
      SCOPED_TRACE(kind + " " + name_of(choice));
      const auto connector = make_connector(config_of(kind, choice), {kFeatures, kOut, 2, 2});
      connector->to(at::kDouble);
      const Tensor features = at::randn({1, 4, kFeatures}, at::kDouble);
      test::expect_gradients_match([&](const test::Tensors& x) -> test::Tensors { return {connector->forward(x[0])}; },
                                   {features});
      expect_parameter_gradients(*connector, features);
    }
}

TEST(Connector, PrintsItsScaleAtInitialisation) {
  for (const auto& scan : enum_names(nn::Scan{})) {
    at::manual_seed(7);
    ConnectorConfig config;
    config.vss.scan = scan.value;
    const auto connector = make_connector(config, {96, 128, 6, 6});
    const double rms = connector->forward(at::randn({4, 36, 96})).square().mean().sqrt().item<double>();
    std::printf("vss_l2, scan %-13s output RMS %.3f\n", std::string(scan.name).c_str(), rms);
    EXPECT_GT(rms, 0.05);
    EXPECT_LT(rms, 5);
  }
}

}  // namespace
}  // namespace vlmamba
