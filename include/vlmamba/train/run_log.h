#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "vlmamba/io/events.h"
#include "vlmamba/io/file_writer.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

/// What a stage writes down as it goes: metrics.jsonl, which repeats bit for bit, timing.jsonl, which does not, and the
/// same curves for TensorBoard.
class RunLog {
 public:
  /// Continues the logs in `folder` behind `step`: lines of later steps, left by a run that was stopped, are cut off.
  RunLog(const std::string& folder, int64_t step);

  /// One line, which starts with "step". Numbers become curves, objects of numbers curves below their name. What a full
  /// disk refuses is kept in memory until it does not.
  void write_metrics(const io::Json& line);
  void write_timing(const io::Json& line);
  /// Makes the lines last: before a checkpoint, which must not outlive them.
  void sync();
  /// The same at the end of the stage. Throws WriteError.
  void finish();

 private:
  void write(io::AppendFile& file, const std::string& prefix, const io::Json& line);
  void note(bool whole);

  std::string folder_;
  std::unique_ptr<io::AppendFile> metrics_, timing_;
  std::unique_ptr<io::EventWriter> curves_;
  bool behind_ = false;  // something is kept
};

}  // namespace vlmamba
