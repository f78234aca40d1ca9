#include "vlmamba/infer/sampling.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "vlmamba/core/error.h"
#include "vlmamba/core/rng.h"

namespace vlmamba {
namespace {

// Draws from one row: the tokens sorted by probability, cut to top_k and top_p, then by inversion.
int64_t draw(const at::Tensor& logits, const SamplingConfig& config, double uniform) {
  const at::Tensor probabilities = at::softmax(logits.to(at::kDouble) / config.temperature, -1);
  const auto [sorted, ids] = probabilities.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const double* p = sorted.const_data_ptr<double>();
  int64_t count = sorted.size(0);
  if (config.top_k > 0) count = std::min(count, config.top_k);
  double kept = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < count && (i == 0 || kept < config.top_p); ++i) {
    if (p[i] <= 0) break;
    kept += p[i];
    last = i;
  }
  double sum = 0;
  for (int64_t i = 0; i < last; ++i)
    if (uniform * kept < (sum += p[i])) return ids[i].item<int64_t>();
  return ids[last].item<int64_t>();
}

// The greatest logits: NaN or infinity in one means that no token is more probable than another.
void check_finite(const at::Tensor& greatest) {
  if (!greatest.isfinite().all().item<bool>())
    throw Error(ExitCode::kNonFinite, "generation", "expected finite logits, got NaN or infinity");
}

}  // namespace

std::vector<int64_t> choose_tokens(const at::Tensor& logits, const SamplingConfig& config, uint64_t seed,
                                   const std::vector<Draw>& draws) {
  std::vector<int64_t> tokens;
  if (config.temperature == 0) {
    const at::Tensor best = logits.argmax(-1);  // a NaN, where there is one
    check_finite(logits.gather(-1, best.unsqueeze(-1)));
    const at::Tensor ids = best.cpu();
    return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()};
  }
  const at::Tensor rows = logits.cpu();
  check_finite(rows.amax(-1));
  for (size_t row = 0; row < draws.size(); ++row) {
    Rng rng(seed, RngPurpose::kGeneration, static_cast<uint64_t>(draws[row].sequence),
            static_cast<uint32_t>(draws[row].step));
    tokens.push_back(draw(rows[static_cast<int64_t>(row)], config, rng.uniform()));
  }
  return tokens;
}

}  // namespace vlmamba
