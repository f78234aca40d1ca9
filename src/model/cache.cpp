#include "vlmamba/model/cache.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace vlmamba {
namespace {

template <typename Change>
Cache changed(const Cache& cache, const Change& change) {
  Cache result;
  for (const auto& layer : cache.layers) {
    auto& tensors = result.layers.emplace_back();
    for (const auto& tensor : layer) tensors.push_back(change(tensor));
  }
  return result;
}

// Tensors [B_i,…] along their first dimension, with zeros in front wherever one is shorter than another.
at::Tensor joined(const std::vector<at::Tensor>& tensors) {
  std::vector<int64_t> sizes = tensors.front().sizes().vec();
  for (const auto& tensor : tensors)
    for (int64_t d = 1; d < tensor.dim(); ++d)
      sizes[static_cast<size_t>(d)] = std::max(sizes[static_cast<size_t>(d)], tensor.size(d));
  std::vector<at::Tensor> filled;
  for (const auto& tensor : tensors) {
    std::vector<int64_t> zeros;  // before and behind, from the last dimension
    for (int64_t d = tensor.dim() - 1; d > 0; --d) {
      zeros.push_back(sizes[static_cast<size_t>(d)] - tensor.size(d));
      zeros.push_back(0);
    }
    const bool fits = std::all_of(zeros.begin(), zeros.end(), [](int64_t count) { return count == 0; });
    filled.push_back(fits ? tensor : at::constant_pad_nd(tensor, zeros));
  }
  return at::cat(filled);
}

}  // namespace

Cache Cache::select(const at::Tensor& rows) const {
  return changed(*this, [&](const at::Tensor& tensor) { return tensor.index_select(0, rows); });
}

Cache Cache::clone() const {
  return changed(*this, [](const at::Tensor& tensor) { return tensor.clone(); });
}

Cache Cache::join(const std::vector<Cache>& parts) {
  Cache result;
  if (parts.empty()) return result;
  for (size_t layer = 0; layer < parts.front().layers.size(); ++layer) {
    auto& tensors = result.layers.emplace_back();
    for (size_t i = 0; i < parts.front().layers[layer].size(); ++i) {
      std::vector<at::Tensor> own;
      for (const auto& part : parts) own.push_back(part.layers[layer][i]);
      tensors.push_back(joined(own));
    }
  }
  return result;
}

int64_t Cache::bytes() const {
  int64_t bytes = 0;
  for (const auto& layer : layers)
    for (const auto& tensor : layer) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

}  // namespace vlmamba
