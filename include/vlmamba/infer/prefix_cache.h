#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "vlmamba/infer/prompt.h"
#include "vlmamba/infer/recently_used.h"
#include "vlmamba/model/vl_mamba.h"

namespace vlmamba {

/// What a language model remembers behind the beginning of a prompt.
struct PromptState {
  Cache cache;      ///< one sequence
  at::Tensor last;  ///< [1,D]: the hidden state of the last position, which tells the next token
};

/// Reads prompts, and each beginning that prompts share only once: a picture's state is forked for all questions on it,
/// and the encoder runs once per picture. Prompts are always read piece by piece (infer/prompt.h), whether a piece is
/// remembered or not, so that what is remembered never changes an answer, not even in the last bit.
class PrefixCache {
 public:
  static constexpr int64_t kDefaultBytes = int64_t{1} << 30;

  /// Remembers up to about `most_bytes`, what was used longest ago leaves first; 0: only the latest state and picture.
  /// The model must outlive the cache.
  explicit PrefixCache(const VlMamba& model, int64_t most_bytes = kDefaultBytes);
  /// Of prompts without pictures.
  explicit PrefixCache(const LanguageModel& model, int64_t most_bytes = kDefaultBytes);

  /// The state behind the whole prompt. Throws Error (data) for a prompt without ids, or without a picture for each
  /// place. Without gradients.
  PromptState read(const Prompt& prompt);

  struct Counts {
    int64_t pictures = 0;   ///< that the encoder saw
    int64_t positions = 0;  ///< that the language model read
    int64_t shared = 0;     ///< that it need not read again
  };
  const Counts& counts() const { return counts_; }

 private:
  PrefixCache(const VlMamba* pictures, const LanguageModel& model, int64_t most_bytes);
  at::Tensor picture_embeds(const Picture& picture, at::ScalarType type);  // [P,D]
  PromptState read_piece(const Prompt& prompt, size_t begin, size_t end, size_t picture, const Cache& before);

  const VlMamba* pictures_;
  const LanguageModel& model_;
  at::Device device_;
  RecentlyUsed<PromptState> states_;
  RecentlyUsed<at::Tensor> embeds_;
  Counts counts_;
};

}  // namespace vlmamba
