#include "vlmamba/train/validation.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "vlmamba/data/collator.h"

namespace vlmamba {

std::map<std::string, double> validation_losses(const VlMamba& model, const StageData& data, int64_t micro_batch) {
  const at::NoGradGuard no_grad;
  std::map<std::string, double> losses;
  for (size_t set = 0; set < data.validation.size(); ++set) {
    double sum = 0;
    int64_t tokens = 0;
    const auto& records = data.validation[set];
    const auto size = static_cast<size_t>(micro_batch);
    for (size_t first = 0; first < records.size(); first += size) {
      std::vector<Example> examples;
      std::vector<const Example*> row;
      for (size_t i = first; i < std::min(records.size(), first + size); ++i)
        examples.push_back(data.reader.read(records[i]));
      for (const auto& example : examples) row.push_back(&example);
      const auto loss = model.loss(collate(row, data.reader.tokenizer.pad_id(), data.reader.image_processor.size()));
      sum += loss.loss_sum.item<double>();
      tokens += loss.num_tokens;
    }
    if (tokens > 0) losses[data.set_names[set]] = sum / static_cast<double>(tokens);
  }
  return losses;
}

}  // namespace vlmamba
