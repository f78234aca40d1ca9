#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "vlmamba/core/fields.h"

namespace vlmamba {

/// What is done with a record that cannot be read: malformed, without its picture, or with one that is damaged.
enum class OnBadSample { kError, kSkip };
constexpr auto enum_names(OnBadSample) {
  return std::array{EnumName<OnBadSample>{OnBadSample::kError, "error"},
                    EnumName<OnBadSample>{OnBadSample::kSkip, "skip"}};
}

/// What is done with a record of more positions than batch.max_length.
enum class OnTooLong { kTruncate, kDrop, kError };
constexpr auto enum_names(OnTooLong) {
  return std::array{EnumName<OnTooLong>{OnTooLong::kTruncate, "truncate"},
                    EnumName<OnTooLong>{OnTooLong::kDrop, "drop"}, EnumName<OnTooLong>{OnTooLong::kError, "error"}};
}

/// Records that cannot be used as they are. One that is left out is replaced by another, so that every step has
/// global_batch records.
struct SamplePolicy {
  OnBadSample on_bad_sample = OnBadSample::kError;
  int64_t max_bad_samples = 1000;
  OnTooLong on_too_long = OnTooLong::kTruncate;
  double max_untrained_share = 0.001;

  template <typename F>
  void visit(F& f) {
    f("on_bad_sample", on_bad_sample,
      "a record that is malformed or whose picture cannot be read stops the run, or not");
    f("max_bad_samples", max_bad_samples, "how many may be skipped in a stage before the run stops after all",
      Range{0});
    f("on_too_long", on_too_long,
      "a record of more than batch.max_length positions is cut, left out, or stops the run");
    f("max_untrained_share", max_untrained_share,
      "share of the records that may have nothing to learn (they are left out) before the run stops, from 10 on; 0: "
      "none",
      Range{0, 1});
  }
};

/// What became of a record.
enum class SampleFate { kUsed, kSkipped, kCut, kDropped, kUntrained };

/// What is to be said of a record; an empty text: nothing.
struct SampleRemark {
  SampleFate fate = SampleFate::kUsed;
  std::string text;
};

/// How many records of a stage came out how. Each counts once an epoch, whatever replaces it.
struct SampleCounts {
  int64_t read = 0;
  int64_t skipped = 0;    ///< could not be read
  int64_t cut = 0;        ///< at batch.max_length
  int64_t dropped = 0;    ///< were longer than that
  int64_t untrained = 0;  ///< had nothing to learn

  SampleCounts& operator+=(const SampleCounts& other);
  void add(SampleFate fate);

  template <typename F>
  void visit(F& f) {
    f("read", read, "records that were due");
    f("skipped", skipped, "could not be read");
    f("cut", cut, "at batch.max_length");
    f("dropped", dropped, "were longer than that");
    f("untrained", untrained, "had nothing to learn");
  }
};

/// Throws Error (data) where more records were left out than the policy allows. `examples` says which, for the message.
void check_counts(const SampleCounts& counts, const SamplePolicy& policy, const std::string& examples);

}  // namespace vlmamba
