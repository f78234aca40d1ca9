#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/data/example.h"
#include "vlmamba/data/loader.h"
#include "vlmamba/data/mixture.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

/// A stage's records, indexed and split.
struct StageData {
  ExampleReader reader;
  SamplePolicy policy;
  Mixture training;
  std::vector<Mixture> validation;  ///< by set
  std::vector<std::string> set_names;
  int64_t epoch_size = 0;  ///< records of an epoch, by the sets' weights
  SampleCounts left_out;   ///< malformed records, which are in neither part

  /// Both must outlive what is made of them.
  SampleReader training_reader() const;
  SampleReader validation_reader(size_t set) const;
};

/// Indexes the sets of a stage and holds back validation_records of each, chosen by `seed`. `reader.image_roots` must
/// follow the sets. `index_folder` keeps the indices between runs; empty: they are not kept. Throws Error (data), also
/// for a malformed record unless the policy is to skip it.
StageData read_stage_data(const DataConfig& config, ExampleReader reader, uint64_t seed,
                          const std::string& index_folder);

/// The order of a stage's records.
Sampler stage_sampler(const StageData& data, const BatchConfig& batch, uint64_t seed, uint32_t stage_index);

}  // namespace vlmamba
