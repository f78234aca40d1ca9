#include "vlmamba/infer/generator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace vlmamba {

using at::Tensor;

std::vector<std::vector<int64_t>> continue_sequences(const LanguageModel& model, const Tensor& embeds,
                                                     const Tensor& seq_idx, const SamplingConfig& config,
                                                     const std::vector<int64_t>& end_tokens, uint64_t seed,
                                                     int64_t first_sequence) {
  const at::NoGradGuard no_grad;
  const int64_t rows = embeds.size(0);
  std::vector<std::vector<int64_t>> answers(static_cast<size_t>(rows));
  if (rows == 0) return answers;
  Cache cache;
  const Tensor hidden = model.forward(embeds, seq_idx, &cache);
  const Tensor last = seq_idx.ge(0).sum(1) - 1;  // rows are padded on the right
  Tensor current = hidden.gather(1, last.view({rows, 1, 1}).expand({rows, 1, hidden.size(2)})).squeeze(1);
  std::vector<int64_t> alive(static_cast<size_t>(rows));  // which answer each row of `current` continues
  std::iota(alive.begin(), alive.end(), 0);
  const auto ends = [&](int64_t id) { return std::find(end_tokens.begin(), end_tokens.end(), id) != end_tokens.end(); };
  for (int64_t step = 0; !alive.empty(); ++step) {
    std::vector<int64_t> sequences;
    for (const int64_t row : alive) sequences.push_back(first_sequence + row);
    const auto tokens = choose_tokens(model.head(current), config, seed, sequences, step);
    std::vector<int64_t> kept_rows, kept_tokens, still_alive;
    for (size_t i = 0; i < alive.size(); ++i) {
      answers[static_cast<size_t>(alive[i])].push_back(tokens[i]);
      if (ends(tokens[i]) || step + 1 == config.max_new_tokens) continue;
      kept_rows.push_back(static_cast<int64_t>(i));
      kept_tokens.push_back(tokens[i]);
      still_alive.push_back(alive[i]);
    }
    if (still_alive.empty()) break;
    if (still_alive.size() < alive.size()) cache = cache.select(at::tensor(kept_rows, at::kLong));
    alive = std::move(still_alive);
    current = model.step(model.embed(at::tensor(kept_tokens, at::kLong)), cache);
  }
  return answers;
}

Generator::Generator(const VlMamba& model, const SamplingConfig& config, int64_t end_token, uint64_t seed)
    : model_(model), config_(config), end_token_(end_token), seed_(seed) {}

std::vector<std::vector<int64_t>> Generator::generate(const Batch& prompts, int64_t first_sequence) const {
  const at::NoGradGuard no_grad;
  if (prompts.input_ids.size(0) == 0) return {};
  return continue_sequences(*model_.language_model, model_.embed(prompts), prompts.seq_idx, config_, {end_token_},
                            seed_, first_sequence);
}

}  // namespace vlmamba
