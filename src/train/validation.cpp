#include "vlmamba/train/validation.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "vlmamba/data/collator.h"
#include "vlmamba/train/mixed_precision.h"

namespace vlmamba {

std::map<std::string, double> validation_losses(const VlMamba& model, const StageData& data, int64_t micro_batch,
                                                Precision precision, Comm& comm) {
  const at::NoGradGuard no_grad;
  std::map<std::string, double> losses;
  for (size_t set = 0; set < data.validation.size(); ++set) {
    double sum = 0;
    int64_t tokens = 0;
    const SampleReader reader = data.validation_reader(set);
    for (int64_t first = comm.rank() * micro_batch; first < data.validation[set].size();
         first += comm.size() * micro_batch) {
      std::vector<Example> examples;
      std::vector<const Example*> rows;
      for (int64_t i = first; i < std::min(data.validation[set].size(), first + micro_batch); ++i)
        if (auto example = reader.read(i).example) examples.push_back(std::move(*example));
      if (examples.empty()) continue;
      for (const auto& example : examples) rows.push_back(&example);
      const auto loss =
          loss_in(precision, model, collate(rows, data.reader.tokenizer.pad_id(), data.reader.image_processor.size()));
      sum += loss.loss_sum.item<double>();
      tokens += loss.num_tokens;
    }
    const auto all = comm.sum({sum, static_cast<double>(tokens)});
    if (all[1] > 0) losses[data.set_names[set]] = all[0] / all[1];
  }
  return losses;
}

}  // namespace vlmamba
