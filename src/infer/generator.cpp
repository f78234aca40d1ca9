#include "vlmamba/infer/generator.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace vlmamba {
namespace {

using at::Tensor;

// Matrix products of LibTorch take other paths for a few rows left over, which round otherwise.
constexpr int64_t kRowMultiple = 8;

int64_t filled(int64_t rows) { return (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple; }

// Rows [R,...] with copies of the first behind them, a multiple of so many in all.
Tensor fill_up(const Tensor& rows) {
  const int64_t missing = filled(rows.size(0)) - rows.size(0);
  if (missing == 0) return rows;
  std::vector<int64_t> sizes = rows.sizes().vec();
  sizes[0] = missing;
  return at::cat({rows, rows.slice(0, 0, 1).expand(sizes)});
}

}  // namespace

Generator::Generator(const LanguageModel& model, const SamplingConfig& config, std::vector<int64_t> end_tokens,
                     uint64_t seed)
    : model_(model), config_(config), end_tokens_(std::move(end_tokens)), seed_(seed) {}

void Generator::add(int64_t sequence, PromptState prompt) {
  rows_.push_back({sequence, 0, std::move(prompt.cache)});
  hidden_ = hidden_.defined() ? at::cat({hidden_, prompt.last}) : prompt.last;
}

std::vector<Token> Generator::choose() const {
  std::vector<Draw> draws;
  for (const auto& row : rows_) draws.push_back({row.sequence, row.step});
  const auto rows = static_cast<int64_t>(rows_.size());
  const auto ids = choose_tokens(model_.head(fill_up(hidden_)).slice(0, 0, rows), config_, seed_, draws);
  std::vector<Token> tokens;
  for (size_t i = 0; i < rows_.size(); ++i) {
    const bool ends = std::find(end_tokens_.begin(), end_tokens_.end(), ids[i]) != end_tokens_.end();
    tokens.push_back({rows_[i].sequence, ids[i], ends || rows_[i].step + 1 == config_.max_new_tokens});
  }
  return tokens;
}

// Brings the cache to these of rows_: finished ones leave, fresh ones join.
void Generator::keep(const std::vector<size_t>& kept) {
  std::vector<int64_t> joined;  // rows of cache_
  std::vector<Cache> parts;
  std::vector<Row> rows;
  for (const size_t i : kept) {
    if (rows_[i].fresh.layers.empty())
      joined.push_back(static_cast<int64_t>(i));
    else
      parts.push_back(std::move(rows_[i].fresh));
    rows.push_back({rows_[i].sequence, rows_[i].step, {}});
  }
  const bool same = parts.empty() && kept.size() == rows_.size();
  rows_ = std::move(rows);
  if (same) return;
  if (!joined.empty())
    parts.insert(parts.begin(), cache_.select(at::tensor(joined, hidden_.options().dtype(at::kLong))));
  cached_rows_ = filled(static_cast<int64_t>(rows_.size()));
  const int64_t copies = cached_rows_ - static_cast<int64_t>(rows_.size());
  if (copies > 0) parts.push_back(parts.front().select(at::zeros({copies}, hidden_.options().dtype(at::kLong))));
  cache_ = Cache::join(parts);
}

std::vector<Token> Generator::step() {
  const c10::AutoGradMode no_grad(false);
  if (rows_.empty()) return {};
  const auto tokens = choose();
  std::vector<size_t> kept;
  std::vector<int64_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].last) continue;
    kept.push_back(i);
    ids.push_back(tokens[i].id);
    ++rows_[i].step;
  }
  if (kept.empty()) {
    rows_.clear();
    hidden_ = Tensor();
    cache_ = Cache();
    return tokens;
  }
  keep(kept);
  const auto rows = static_cast<int64_t>(rows_.size());
  ids.resize(static_cast<size_t>(cached_rows_), ids.front());
  const Tensor embeds = model_.embed(at::tensor(ids, hidden_.options().dtype(at::kLong)));
  hidden_ = model_.step(embeds, cache_).slice(0, 0, rows);
  return tokens;
}

std::vector<std::vector<int64_t>> generate(PrefixCache& reader, Generator& generator,
                                           const std::vector<Prompt>& prompts, size_t batch, int64_t first_sequence) {
  std::vector<std::vector<int64_t>> answers(prompts.size());
  for (size_t next = 0; next < prompts.size() || generator.size() > 0;) {
    for (; next < prompts.size() && generator.size() < batch; ++next)
      generator.add(first_sequence + static_cast<int64_t>(next), reader.read(prompts[next]));
    for (const auto& token : generator.step())
      answers[static_cast<size_t>(token.sequence - first_sequence)].push_back(token.id);
  }
  return answers;
}

}  // namespace vlmamba
