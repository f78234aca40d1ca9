#pragma once

#include "vlmamba/model/language_model.h"

namespace vlmamba {

constexpr double kEmbeddingStd = 0.02;

/// hidden [..., D] times a head [rows, D]; rows at and behind `vocab_size` give -inf.
at::Tensor head_logits(const at::Tensor& hidden, const at::Tensor& head, int64_t vocab_size);

std::shared_ptr<LanguageModel> make_mamba(const LanguageModelConfig& config);
std::shared_ptr<LanguageModel> make_mamba2(const LanguageModelConfig& config);
std::shared_ptr<LanguageModel> make_gpt_neox(const LanguageModelConfig& config);

}  // namespace vlmamba
