#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "vlmamba/core/fields.h"

namespace vlmamba {

/// How the next token is chosen. The defaults are greedy decoding as LLaVA evaluates.
struct SamplingConfig {
  int64_t max_new_tokens = 128;
  double temperature = 0;
  double top_p = 1;
  int64_t top_k = 0;

  template <typename F>
  void visit(F& f) {
    f("max_new_tokens", max_new_tokens, "tokens after which an answer is cut", Range{1});
    f("temperature", temperature, "0: the most probable token; else logits are divided by it and a token is drawn",
      Range{0});
    f("top_p", top_p, "draws among the most probable tokens that together have this probability", Range{0, 1});
    f("top_k", top_k, "draws among so many most probable tokens; 0: all", Range{0});
  }
};

/// What a draw depends on, beside the seed.
struct Draw {
  int64_t sequence;
  int64_t step;  ///< of the sequence
};

/// A token for each row of logits [R, vocab]. What row r draws depends on (seed, draws[r]) alone, so that an answer
/// does not depend on its neighbours. -inf logits are never chosen.
std::vector<int64_t> choose_tokens(const at::Tensor& logits, const SamplingConfig& config, uint64_t seed,
                                   const std::vector<Draw>& draws);

}  // namespace vlmamba
