#include "vlmamba/data/mixture.h"

namespace vlmamba {

void Mixture::add(std::shared_ptr<const RecordFile> file, std::vector<uint32_t> numbers, size_t source, double weight) {
  size_ += static_cast<int64_t>(numbers.size());
  sets_.push_back({std::move(file), std::move(numbers), source, weight});
}

Record Mixture::read(int64_t number) const {
  auto set = sets_.begin();
  auto within = static_cast<size_t>(number);
  for (; within >= set->numbers.size(); ++set) within -= set->numbers.size();
  Record record = set->file->read(set->numbers[within]);
  record.source = set->source;
  return record;
}

SamplerInput Mixture::sampler_input() const {
  SamplerInput input;
  for (const auto& set : sets_) {
    input.sets.push_back({static_cast<int64_t>(set.numbers.size()), set.weight});
    for (const uint32_t number : set.numbers) {
      const RecordEntry& entry = set.file->entry(number);
      input.sizes.push_back({entry.words, entry.pictures > 0});
    }
  }
  return input;
}

}  // namespace vlmamba
