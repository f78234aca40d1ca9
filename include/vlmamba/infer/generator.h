#pragma once

#include <cstdint>
#include <vector>

#include "vlmamba/infer/prefix_cache.h"
#include "vlmamba/infer/sampling.h"

namespace vlmamba {

/// A token of an answer.
struct Token {
  int64_t sequence;  ///< whose
  int64_t id;
  bool last;  ///< the answer ends with it: it is an end token, or the limit was reached
};

/// Answers being written, any number at a time: new ones may join before every step, and finished ones leave. A
/// sequence takes constant memory (of Mamba). Steps are computed for a multiple of so many rows that what a sequence
/// gets does not depend on the others: of Mamba on the CPU bit for bit.
class Generator {
 public:
  /// An answer ends with one of `end_tokens`. `model` must outlive the generator.
  Generator(const LanguageModel& model, const SamplingConfig& config, std::vector<int64_t> end_tokens,
            uint64_t seed = 0);

  /// Begins the answer to a prompt that was read. `sequence` names it, also for sampling.
  void add(int64_t sequence, PromptState prompt);
  /// How many answers are not finished.
  size_t size() const { return rows_.size(); }
  /// The next token of every answer.
  std::vector<Token> step();

 private:
  struct Row {
    int64_t sequence;
    int64_t step = 0;
    Cache fresh = {};  // until it has joined the others
  };
  std::vector<Token> choose() const;
  void keep(const std::vector<size_t>& rows);

  const LanguageModel& model_;
  SamplingConfig config_;
  std::vector<int64_t> end_tokens_;
  uint64_t seed_;
  std::vector<Row> rows_;    // those without `fresh` first, in the order of cache_
  at::Tensor hidden_;        // [rows,D]: of the last position of each
  Cache cache_;              // of the rows that have joined, and of copies that fill up the number
  int64_t cached_rows_ = 0;  // in cache_, with the copies
};

/// The new tokens of each prompt, at most `batch` prompts at a time. Prompt i is sequence `first_sequence` + i.
std::vector<std::vector<int64_t>> generate(PrefixCache& reader, Generator& generator,
                                           const std::vector<Prompt>& prompts, size_t batch = 32,
                                           int64_t first_sequence = 0);

}  // namespace vlmamba
