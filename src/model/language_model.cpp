#include "vlmamba/model/language_model.h"

#include <ATen/ATen.h>

#include <limits>

#include "src/model/language_models.h"
#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

void check_divisor(int64_t divisor, int64_t whole, const char* key, const char* of) {
  if (whole % divisor != 0)
    throw Error(ExitCode::kUsage, "model.language_model." + std::string(key),
                "expected a divisor of " + std::string(of) + " (" + std::to_string(whole) + "), got " +
                    std::to_string(divisor));
}

// Channels are rotated in pairs; one alone is its own pair, as in transformers.
void check_rotation(const LanguageModelConfig& config) {
  const int64_t head = config.hidden_size / config.gpt_neox.num_heads;
  const auto rotated = static_cast<int64_t>(static_cast<double>(head) * config.gpt_neox.rotary_fraction);
  if (rotated > 1 && rotated % 2 != 0)
    throw Error(
        ExitCode::kUsage, "model.language_model.gpt_neox.rotary_fraction",
        "expected an even number of a head's " + std::to_string(head) + " channels, got " + std::to_string(rotated));
}

}  // namespace

at::Tensor head_logits(const at::Tensor& hidden, const at::Tensor& head, int64_t vocab_size) {
  const at::Tensor logits = at::linear(hidden, head);
  if (head.size(0) == vocab_size) return logits;
  const at::Tensor padded = at::arange(head.size(0), hidden.options().dtype(at::kLong)).ge(vocab_size);
  return logits.masked_fill(padded, -std::numeric_limits<double>::infinity());
}

std::shared_ptr<LanguageModel> make_language_model(const LanguageModelConfig& config) {
  switch (config.kind) {
    case LanguageKind::kMamba:
      return make_mamba(config);
    case LanguageKind::kMamba2: {
      const int64_t inner = config.expand * config.hidden_size;
      check_divisor(config.mamba2.head_dim, inner, "mamba2.head_dim", "expand * hidden_size");
      check_divisor(config.mamba2.num_groups, inner / config.mamba2.head_dim, "mamba2.num_groups", "the heads");
      check_divisor(config.mamba2.norm_groups, inner, "mamba2.norm_groups", "expand * hidden_size");
      return make_mamba2(config);
    }
    case LanguageKind::kGptNeox:
      check_divisor(config.gpt_neox.num_heads, config.hidden_size, "gpt_neox.num_heads", "hidden_size");
      check_rotation(config);
      return make_gpt_neox(config);
  }
  return nullptr;
}

}  // namespace vlmamba
