#include "vlmamba/model/cache.h"

#include <ATen/ATen.h>

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

}  // namespace

Cache Cache::select(const at::Tensor& rows) const {
  return changed(*this, [&](const at::Tensor& tensor) { return tensor.index_select(0, rows); });
}

Cache Cache::repeat(int64_t times) const {
  return changed(*this, [&](const at::Tensor& tensor) { return tensor.repeat_interleave(times, 0); });
}

Cache Cache::clone() const {
  return changed(*this, [](const at::Tensor& tensor) { return tensor.clone(); });
}

}  // namespace vlmamba
