#include "vlmamba/data/collator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "vlmamba/core/tokens.h"

namespace vlmamba {
namespace {

int64_t length_of(const Example& example) { return static_cast<int64_t>(example.sample.input_ids.size()); }

int64_t length_of(const Row& row) {
  int64_t length = 0;
  for (const Example* example : row) length += length_of(*example);
  return length;
}

}  // namespace

Batch collate_rows(const std::vector<Row>& rows, int64_t pad_id, int64_t image_size, bool pin_memory) {
  int64_t length = 0, pictures = 0;
  for (const Row& row : rows) {
    length = std::max(length, length_of(row));
    for (const Example* example : row) pictures += static_cast<int64_t>(example->pictures.size());
  }
  const auto made = [&](at::ScalarType type) { return at::TensorOptions(type).pinned_memory(pin_memory); };
  const std::array<int64_t, 2> shape{static_cast<int64_t>(rows.size()), length};
  Batch batch;
  batch.input_ids = at::full(shape, pad_id, made(at::kLong));
  batch.labels = at::full(shape, kIgnoreIndex, made(at::kLong));
  batch.seq_idx = at::full(shape, -1, made(at::kInt));
  if (pictures > 0) batch.pixel_values = at::empty({pictures, 3, image_size, image_size}, made(at::kFloat));
  float* pixels = pictures > 0 ? batch.pixel_values.mutable_data_ptr<float>() : nullptr;
  for (size_t r = 0; r < rows.size(); ++r) {
    auto at = static_cast<std::ptrdiff_t>(r) * length;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const Example& example = *rows[r][i];
      const Sample& sample = example.sample;
      std::copy(sample.input_ids.begin(), sample.input_ids.end(), batch.input_ids.mutable_data_ptr<int64_t>() + at);
      if (!sample.labels.empty())
        std::copy(sample.labels.begin() + 1, sample.labels.end(), batch.labels.mutable_data_ptr<int64_t>() + at + 1);
      std::fill_n(batch.seq_idx.mutable_data_ptr<int32_t>() + at, sample.input_ids.size(), static_cast<int32_t>(i));
      for (const auto& picture : example.pictures) pixels = std::copy(picture.begin(), picture.end(), pixels);
      batch.sample_ids.push_back(example.id);
      at += length_of(example);
    }
  }
  return batch;
}

Batch collate(const std::vector<const Example*>& examples, int64_t pad_id, int64_t image_size, bool pin_memory) {
  std::vector<Row> rows;
  for (const Example* example : examples) rows.push_back({example});
  return collate_rows(rows, pad_id, image_size, pin_memory);
}

std::vector<Row> pack(const std::vector<const Example*>& examples, int64_t max_length) {
  std::vector<const Example*> longest_first = examples;
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [](const Example* a, const Example* b) { return length_of(*a) > length_of(*b); });
  std::vector<Row> rows;
  for (const Example* example : longest_first) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& candidate) {
      return length_of(candidate) + length_of(*example) <= max_length;
    });
    if (row == rows.end())
      rows.push_back({example});
    else
      row->push_back(example);
  }
  return rows;
}

int64_t count_targets(const Batch& batch) { return batch.labels.ne(kIgnoreIndex).sum().item<int64_t>(); }

}  // namespace vlmamba
