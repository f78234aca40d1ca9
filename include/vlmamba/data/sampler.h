#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "vlmamba/core/fields.h"

namespace vlmamba {

/// What a step's records have in common, as LLaVA's --group_by_modality_length and --group_by_length do it.
enum class GroupBy { kNone, kLength, kModalityLength };
constexpr auto enum_names(GroupBy) {
  return std::array{EnumName<GroupBy>{GroupBy::kNone, "none"}, EnumName<GroupBy>{GroupBy::kLength, "length"},
                    EnumName<GroupBy>{GroupBy::kModalityLength, "modality_length"}};
}

/// What is drawn from: records 0 .. n-1, set after set.
struct SamplerInput {
  struct Set {
    int64_t count;
    double weight = 1;  ///< times that a record is drawn in an epoch, on average
  };
  struct RecordSize {
    uint32_t words;
    bool has_picture;
  };
  std::vector<Set> sets;
  std::vector<RecordSize> sizes;  ///< by record
};

struct SamplerPlan {
  uint64_t seed = 0;
  uint32_t stream = 0;  ///< tells samplers of one seed apart, e.g. the stages of a run
  GroupBy group_by = GroupBy::kNone;
  int64_t global_batch = 1, micro_batch = 1;  ///< whose records are grouped
};

/// An endless stream of record numbers, epoch after epoch. An epoch holds round(weight * count) records of each set, of
/// which none comes again before all of its set came, in a random order. What stands at a position is a function of
/// (plan, input, position) alone, so that a run resumes from a step number.
///
/// Grouped, the order is LLaVA's: the records of each modality (all, for kLength) are shuffled and cut into global
/// batches; within one the longest records are dealt first, each to the micro-batch that is shortest so far; and the
/// global batches are shuffled. What does not fill a global batch comes last, with pictures before without. All cuts
/// follow the steps of the run, also in epochs that begin within a step: its rest has pictures.
class Sampler {
 public:
  /// At least one record.
  Sampler(const SamplerPlan& plan, SamplerInput input);

  int64_t at(int64_t position);

  /// Records of an epoch.
  int64_t epoch_size() const { return epoch_size_; }

  /// The record that takes the place of `record`, which stands at `position` and cannot be used: a random one of the
  /// same set and, if a few draws find one, of the same modality. Another for each `attempt`. Safe to call from many
  /// threads.
  int64_t replacement(int64_t position, int64_t record, int64_t attempt) const;

 private:
  std::vector<int64_t> records_of_epoch(int64_t epoch) const;
  std::vector<int64_t> order_of_epoch(int64_t epoch) const;
  std::vector<int64_t> grouped(std::vector<int64_t> records, int64_t epoch) const;
  void group_batch(std::vector<int64_t>::iterator first) const;
  int64_t length(int64_t record) const;

  SamplerPlan plan_;
  SamplerInput input_;
  int64_t epoch_size_ = 0;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;  // of epoch_
};

/// Records that an epoch draws from a set.
int64_t records_of_epoch(const SamplerInput::Set& set);

}  // namespace vlmamba
