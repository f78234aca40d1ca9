#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "vlmamba/data/example.h"
#include "vlmamba/data/sample_policy.h"

namespace vlmamba {

/// Gives a record by its number; must be safe to call from many threads.
using ReadRecord = std::function<Record(int64_t number)>;

/// Reads examples as a policy wants it.
class SampleReader {
 public:
  /// `reader` must outlive it.
  SampleReader(ReadRecord records, const ExampleReader& reader, const SamplePolicy& policy)
      : records_(std::move(records)), reader_(reader), policy_(policy) {}

  struct Result {
    std::optional<Example> example;  ///< none: the record is left out
    SampleRemark remark;
  };
  /// Safe to call from many threads. Throws Error (data) for a record that the policy stops at.
  Result read(int64_t number) const;

  const ExampleReader& examples() const { return reader_; }

 private:
  ReadRecord records_;
  const ExampleReader& reader_;
  SamplePolicy policy_;
};

}  // namespace vlmamba
