#include "vlmamba/train/trainable.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "vlmamba/core/error.h"
#include "vlmamba/core/rng.h"
#include "vlmamba/nn/linear.h"

namespace vlmamba {
namespace {

using nn::Linear;

// The block that a parameter or layer belongs to, by its name: "backbone.layers.3.norm.weight" to block 3.
std::optional<int64_t> block_of(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  const auto at = name.find(kLayers);
  if (at == std::string_view::npos) return std::nullopt;
  int64_t block = 0;
  const std::string_view digits = name.substr(at + kLayers.size());
  const auto [end, failed] = std::from_chars(digits.begin(), digits.end(), block);
  return failed == std::errc() ? std::optional(block) : std::nullopt;
}

// Which names of a part are in its last blocks or behind them; with 0 of them, all.
class LastBlocks {
 public:
  LastBlocks(const torch::nn::Module& part, int64_t count, const std::string& key) {
    if (count == 0) return;
    int64_t blocks = 0;
    for (const auto& parameter : part.named_parameters())
      if (const auto block = block_of(parameter.key())) blocks = std::max(blocks, *block + 1);
    if (count > blocks)
      throw Error(ExitCode::kUsage, key + ".last_blocks",
                  "expected at most the part's " + std::to_string(blocks) + " blocks, got " + std::to_string(count));
    first_ = blocks - count;
    bool behind = false;
    for (const auto& parameter : part.named_parameters()) {
      behind = behind || block_of(parameter.key());
      if (!behind) before_.insert(parameter.key());
    }
  }
  bool contain(const std::string& parameter) const {
    const auto block = block_of(parameter);
    return block ? *block >= first_ : !before_.contains(parameter);
  }

 private:
  int64_t first_ = 0;
  std::set<std::string> before_;
};

bool is_called(const std::string& name, const std::string& target) {
  return name == target || name.ends_with("." + target);
}

void add_lora(const torch::nn::Module& part, const LoraConfig& config, const LastBlocks& blocks, Rng draws,
              const std::string& key) {
  std::set<std::string> missing(config.target_modules.begin(), config.target_modules.end()), known;
  for (const auto& layer : part.named_modules("", /*include_self=*/false)) {
    auto* linear = dynamic_cast<Linear*>(layer.value().get());
    if (linear == nullptr) continue;
    known.insert(layer.key().substr(layer.key().rfind('.') + 1));
    const auto& targets = config.target_modules;
    const auto target =
        std::find_if(targets.begin(), targets.end(), [&](const auto& name) { return is_called(layer.key(), name); });
    if (target != targets.end()) missing.erase(*target);
    const uint64_t seed = static_cast<uint64_t>(draws.next()) << 32 | draws.next();
    if ((targets.empty() || target != targets.end()) && blocks.contain(layer.key() + ".weight"))
      linear->add_lora({config.r, config.alpha / static_cast<double>(config.r), config.dropout}, seed);
  }
  if (missing.empty()) return;
  std::string names;
  for (const auto& name : known) names += (names.empty() ? "" : ", ") + name;
  throw Error(ExitCode::kUsage, key + ".lora.target_modules",
              "expected some of " + names + ", got " + *missing.begin());
}

template <typename F>
void for_each_linear(const torch::nn::Module& model, F&& f) {
  for (const auto& layer : model.modules(/*include_self=*/false))
    if (auto* linear = dynamic_cast<Linear*>(layer.get())) f(*linear);
}

}  // namespace

void set_trainable(torch::nn::Module& model, const Trainable& trainable, uint64_t seed) {
  std::string known;
  std::set<std::string> unknown;
  for (const auto& [part, how] : trainable.parts) unknown.insert(part);
  for (auto& parameter : model.parameters()) parameter.set_requires_grad(false);
  for (const auto& child : model.named_children()) {
    known += (known.empty() ? "" : ", ") + child.key();
    unknown.erase(child.key());
    const auto found = trainable.parts.find(child.key());
    if (found == trainable.parts.end()) continue;
    const auto& [part, how] = *found;
    const LastBlocks blocks(*child.value(), how.last_blocks, "trainable." + part);
    if (how.lora) add_lora(*child.value(), *how.lora, blocks, Rng(seed, RngPurpose::kInit), "trainable." + part);
    for (auto& parameter : child.value()->named_parameters()) {
      const bool is_lora = is_called(parameter.key(), "lora_A") || is_called(parameter.key(), "lora_B");
      parameter.value().set_requires_grad(how.lora ? is_lora : blocks.contain(parameter.key()));
    }
  }
  if (trainable.empty() || !unknown.empty())
    throw Error(
        ExitCode::kUsage, "trainable",
        "expected at least one of " + known + ", got " + (unknown.empty() ? "none" : "\"" + *unknown.begin() + "\""));
}

void merge_lora(torch::nn::Module& model) {
  for_each_linear(model, [](Linear& linear) { linear.merge_lora(); });
}

bool has_lora(const io::WeightFiles& files) {
  return std::any_of(files.tensors().begin(), files.tensors().end(),
                     [](const auto& tensor) { return is_called(tensor.name, "lora_A"); });
}

void load_trained_weights(torch::nn::Module& model, const Trainable& trainable, const std::string& path,
                          const NameMap& map) {
  const io::WeightFiles files(path);
  if (has_lora(files)) set_trainable(model, trainable, /*seed=*/0);
  copy_weights(named_parameters(model), files, map);
  merge_lora(model);
}

uint64_t dropout_draw(uint64_t seed, uint32_t stage_index, int64_t step, int64_t micro_batch) {
  Rng rng(seed, RngPurpose::kTrainStep, static_cast<uint64_t>(step) << 20 | static_cast<uint64_t>(micro_batch),
          stage_index);
  return static_cast<uint64_t>(rng.next()) << 32 | rng.next();
}

void set_dropout_draw(torch::nn::Module& model, std::optional<uint64_t> draw) {
  uint32_t index = 0;
  for_each_linear(model, [&](Linear& linear) {
    if (!linear.has_lora()) return;
    if (!draw) return linear.set_draw(std::nullopt);
    Rng rng(*draw, RngPurpose::kTrainStep, index++);
    linear.set_draw(static_cast<uint64_t>(rng.next()) << 32 | rng.next());
  });
}

}  // namespace vlmamba
