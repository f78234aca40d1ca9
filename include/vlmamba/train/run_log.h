#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

#include "vlmamba/io/events.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

/// What a stage writes down as it goes: metrics.jsonl, which repeats bit for bit, timing.jsonl, which does not, and the
/// same curves for TensorBoard.
class RunLog {
 public:
  /// Continues the logs in `folder` behind `step`: lines of later steps, left by a run that was stopped, are cut off.
  RunLog(const std::string& folder, int64_t step);

  /// One line each; both objects start with "step". Numbers become curves, objects of numbers curves below their name.
  void write(const io::Json& metrics, const io::Json& timing);

 private:
  std::string folder_;
  std::ofstream metrics_, timing_;
  std::unique_ptr<io::EventWriter> curves_;
};

}  // namespace vlmamba
