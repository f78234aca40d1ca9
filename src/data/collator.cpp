#include "vlmamba/data/collator.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "vlmamba/core/tokens.h"

namespace vlmamba {

Batch collate(const std::vector<const Example*>& examples, int64_t pad_id, int64_t image_size) {
  size_t length = 0, pictures = 0;
  for (const Example* example : examples) {
    length = std::max(length, example->sample.input_ids.size());
    pictures += example->pictures.size();
  }
  const auto rows = static_cast<int64_t>(examples.size()), columns = static_cast<int64_t>(length);
  Batch batch;
  batch.input_ids = at::full({rows, columns}, pad_id, at::kLong);
  batch.labels = at::full({rows, columns}, kIgnoreIndex, at::kLong);
  batch.seq_idx = at::full({rows, columns}, -1, at::kInt);
  if (pictures > 0)
    batch.pixel_values = at::empty({static_cast<int64_t>(pictures), 3, image_size, image_size}, at::kFloat);
  float* pixels = pictures > 0 ? batch.pixel_values.mutable_data_ptr<float>() : nullptr;
  for (size_t row = 0; row < examples.size(); ++row) {
    const Example& example = *examples[row];
    const auto at_row = static_cast<std::ptrdiff_t>(row * length);
    const Sample& sample = example.sample;
    std::copy(sample.input_ids.begin(), sample.input_ids.end(), batch.input_ids.mutable_data_ptr<int64_t>() + at_row);
    if (!sample.labels.empty())
      std::copy(sample.labels.begin() + 1, sample.labels.end(), batch.labels.mutable_data_ptr<int64_t>() + at_row + 1);
    std::fill_n(batch.seq_idx.mutable_data_ptr<int32_t>() + at_row, sample.input_ids.size(), 0);
    for (const auto& picture : example.pictures) pixels = std::copy(picture.begin(), picture.end(), pixels);
    batch.sample_ids.push_back(example.id);
  }
  return batch;
}

int64_t count_targets(const Batch& batch) { return batch.labels.ne(kIgnoreIndex).sum().item<int64_t>(); }

}  // namespace vlmamba
