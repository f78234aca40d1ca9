#pragma once

#include <cstdint>
#include <vector>

#include "vlmamba/core/batch.h"
#include "vlmamba/infer/sampling.h"
#include "vlmamba/model/vl_mamba.h"

namespace vlmamba {

/// Continues the embedded prompts [B,L,D] of a language model, padded on the right: `seq_idx` [B,L] is -1 there. The
/// new tokens of each row; one of `end_tokens`, if it was reached, is the last. Finished rows leave the batch.
/// `first_sequence` numbers the rows for sampling.
std::vector<std::vector<int64_t>> continue_sequences(const LanguageModel& model, const at::Tensor& embeds,
                                                     const at::Tensor& seq_idx, const SamplingConfig& config,
                                                     const std::vector<int64_t>& end_tokens, uint64_t seed,
                                                     int64_t first_sequence = 0);

/// Continues prompts with a recurrent cache whose size does not grow. Prompts of unequal length share a batch: each
/// gets the tokens it gets alone, up to rounding. Finished rows leave the batch.
class Generator {
 public:
  /// Tokens behind the answer end with `end_token`. `model` must outlive the generator.
  Generator(const VlMamba& model, const SamplingConfig& config, int64_t end_token, uint64_t seed = 0);

  /// The new tokens of each row of `prompts` (labels are not read); the end token, if it was reached, is the last.
  /// `first_sequence` numbers the rows for sampling.
  std::vector<std::vector<int64_t>> generate(const Batch& prompts, int64_t first_sequence = 0) const;

 private:
  const VlMamba& model_;
  SamplingConfig config_;
  int64_t end_token_;
  uint64_t seed_;
};

}  // namespace vlmamba
