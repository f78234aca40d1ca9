#include "vlmamba/data/sampler.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "vlmamba/core/rng.h"

namespace vlmamba {
namespace {

constexpr int64_t kWordsOfPicture = 128;  // in LLaVA's grouping by length alone
constexpr int64_t kDrawsOfModality = 64;  // for a replacement of the same modality

// Moves `count` records from the front of `from` to the back of `to`.
void move_front(std::vector<int64_t>& from, int64_t count, std::vector<int64_t>& to) {
  const auto end = from.begin() + std::min<int64_t>(count, static_cast<int64_t>(from.size()));
  to.insert(to.end(), from.begin(), end);
  from.erase(from.begin(), end);
}

void shuffle(std::vector<int64_t>& records, Rng& rng) {
  const auto order = rng.permutation(static_cast<int64_t>(records.size()));
  std::vector<int64_t> shuffled;
  for (const int64_t i : order) shuffled.push_back(records[static_cast<size_t>(i)]);
  records = std::move(shuffled);
}

}  // namespace

int64_t records_of_epoch(const SamplerInput::Set& set) {
  if (set.count == 0) return 0;
  return std::max<int64_t>(1, std::llround(set.weight * static_cast<double>(set.count)));
}

Sampler::Sampler(const SamplerPlan& plan, SamplerInput input) : plan_(plan), input_(std::move(input)) {
  for (const auto& set : input_.sets) epoch_size_ += vlmamba::records_of_epoch(set);
}

int64_t Sampler::at(int64_t position) {
  const int64_t epoch = position / epoch_size_;
  if (epoch != epoch_) {
    order_ = order_of_epoch(epoch);
    epoch_ = epoch;
  }
  return order_[static_cast<size_t>(position % epoch_size_)];
}

int64_t Sampler::replacement(int64_t position, int64_t record, int64_t attempt) const {
  int64_t first = 0;
  auto set = input_.sets.begin();
  for (; record >= first + set->count; ++set) first += set->count;
  // Draws of one attempt follow each other; attempts are far apart in the counter's other half.
  Rng rng(plan_.seed, RngPurpose::kReplacement, static_cast<uint64_t>(position) << 8 | static_cast<uint64_t>(attempt),
          plan_.stream);
  const auto modality = [&](int64_t of) { return input_.sizes[static_cast<size_t>(of)].has_picture; };
  int64_t drawn = record;
  for (int64_t draw = 0; draw < kDrawsOfModality; ++draw) {
    drawn = first + static_cast<int64_t>(rng.below(static_cast<uint64_t>(set->count)));
    if (drawn != record && modality(drawn) == modality(record)) break;
  }
  return drawn;
}

// Sets whose weight is 1 are taken whole. Of others, the epochs take slices of an endless stream of orders of the set.
std::vector<int64_t> Sampler::records_of_epoch(int64_t epoch) const {
  std::vector<int64_t> records;
  int64_t first = 0;
  for (size_t s = 0; s < input_.sets.size(); ++s) {
    const auto& set = input_.sets[s];
    const int64_t count = vlmamba::records_of_epoch(set);
    std::vector<int64_t> order;
    int64_t round = -1;  // of the set, of which `order` is
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = epoch * count + i;
      if (count != set.count && place / set.count != round) {
        round = place / set.count;
        order = Rng(plan_.seed, RngPurpose::kMixture, static_cast<uint64_t>(s) << 40 | static_cast<uint64_t>(round),
                    plan_.stream)
                    .permutation(set.count);
      }
      records.push_back(first + (order.empty() ? i : order[static_cast<size_t>(place % set.count)]));
    }
    first += set.count;
  }
  return records;
}

std::vector<int64_t> Sampler::order_of_epoch(int64_t epoch) const {
  std::vector<int64_t> records = records_of_epoch(epoch);
  if (plan_.group_by != GroupBy::kNone) return grouped(std::move(records), epoch);
  Rng rng(plan_.seed, RngPurpose::kSampler, static_cast<uint64_t>(epoch), plan_.stream);
  shuffle(records, rng);
  return records;
}

std::vector<int64_t> Sampler::grouped(std::vector<int64_t> records, int64_t epoch) const {
  const int64_t batch = plan_.global_batch;
  Rng rng(plan_.seed, RngPurpose::kSampler, static_cast<uint64_t>(epoch), plan_.stream);
  shuffle(records, rng);
  std::array<std::vector<int64_t>, 2> modalities;  // with and without a picture
  for (const int64_t record : records) {
    const bool apart =
        plan_.group_by == GroupBy::kModalityLength && !input_.sizes[static_cast<size_t>(record)].has_picture;
    modalities[apart ? 1 : 0].push_back(record);
  }
  std::vector<int64_t> order, batches, rest;
  const int64_t begun =
      (epoch % batch) * (epoch_size_ % batch) % batch;  // records of the step that the epoch begins in
  for (auto& modality : modalities) {
    move_front(modality, (batch - begun) % batch - static_cast<int64_t>(order.size()), order);
    const auto size = static_cast<int64_t>(modality.size());
    move_front(modality, size / batch * batch, batches);
    move_front(modality, batch, rest);
  }
  for (auto first = batches.begin(); first != batches.end(); first += batch) group_batch(first);
  for (const int64_t i : rng.permutation(static_cast<int64_t>(batches.size()) / batch))
    std::copy_n(batches.begin() + i * batch, batch, std::back_inserter(order));
  order.insert(order.end(), rest.begin(), rest.end());
  return order;
}

int64_t Sampler::length(int64_t record) const {
  const auto& size = input_.sizes[static_cast<size_t>(record)];
  return size.words + (plan_.group_by == GroupBy::kLength && size.has_picture ? kWordsOfPicture : 0);
}

// Deals the records of one global batch to its micro-batches.
void Sampler::group_batch(std::vector<int64_t>::iterator first) const {
  const auto last = first + plan_.global_batch;
  std::stable_sort(first, last, [&](int64_t a, int64_t b) { return length(a) > length(b); });
  struct Part {
    int64_t length = 0;
    std::vector<int64_t> records;
  };
  std::vector<Part> parts(static_cast<size_t>(plan_.global_batch / plan_.micro_batch));
  const auto full = [&](const Part& part) { return static_cast<int64_t>(part.records.size()) == plan_.micro_batch; };
  for (auto record = first; record != last; ++record) {
    auto& part = *std::min_element(parts.begin(), parts.end(), [&](const Part& a, const Part& b) {
      return full(a) != full(b) ? full(b) : a.length < b.length;
    });
    part.records.push_back(*record);
    part.length += length(*record);
  }
  for (const auto& part : parts) first = std::copy(part.records.begin(), part.records.end(), first);
}

}  // namespace vlmamba
