#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "vlmamba/data/record_file.h"
#include "vlmamba/data/sampler.h"

namespace vlmamba {

/// Records of several sets that are read together, numbered through: set after set. They stay on the disk.
class Mixture {
 public:
  /// Adds a set: these records of a file. `source` becomes that of the records.
  void add(std::shared_ptr<const RecordFile> file, std::vector<uint32_t> numbers, size_t source, double weight = 1);

  int64_t size() const { return size_; }
  /// Safe to call from many threads. Throws Error (data) for a record that is malformed.
  Record read(int64_t number) const;

  /// What a sampler must know.
  SamplerInput sampler_input() const;

 private:
  struct Set {
    std::shared_ptr<const RecordFile> file;
    std::vector<uint32_t> numbers;
    size_t source;
    double weight;
  };
  std::vector<Set> sets_;
  int64_t size_ = 0;
};

}  // namespace vlmamba
