#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/data/example.h"
#include "vlmamba/train/stage.h"

namespace vlmamba {

/// A stage's records, read and split.
struct StageData {
  ExampleReader reader;
  std::vector<Record> training;
  std::vector<std::vector<Record>> validation;  ///< by set
  std::vector<std::string> set_names;
};

/// Reads the sets of a stage and holds back validation_records of each, chosen by `seed`. `reader.image_roots` must
/// follow the sets. Throws Error (data).
StageData read_stage_data(const DataConfig& config, ExampleReader reader, uint64_t seed);

}  // namespace vlmamba
