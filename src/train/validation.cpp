#include "vlmamba/train/validation.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "vlmamba/data/collator.h"

namespace vlmamba {

std::map<std::string, double> validation_losses(const VlMamba& model, const StageData& data, int64_t micro_batch,
                                                Comm& comm) {
  const at::NoGradGuard no_grad;
  std::map<std::string, double> losses;
  for (size_t set = 0; set < data.validation.size(); ++set) {
    double sum = 0;
    int64_t tokens = 0;
    const auto& records = data.validation[set];
    const auto size = static_cast<size_t>(micro_batch);
    const auto rank = static_cast<size_t>(comm.rank()), ranks = static_cast<size_t>(comm.size());
    for (size_t first = rank * size; first < records.size(); first += ranks * size) {
      std::vector<Example> examples;
      std::vector<const Example*> row;
      for (size_t i = first; i < std::min(records.size(), first + size); ++i)
        examples.push_back(data.reader.read(records[i]));
      for (const auto& example : examples) row.push_back(&example);
      const auto loss = model.loss(collate(row, data.reader.tokenizer.pad_id(), data.reader.image_processor.size()));
      sum += loss.loss_sum.item<double>();
      tokens += loss.num_tokens;
    }
    const auto all = comm.sum({sum, static_cast<double>(tokens)});
    if (all[1] > 0) losses[data.set_names[set]] = all[0] / all[1];
  }
  return losses;
}

}  // namespace vlmamba
