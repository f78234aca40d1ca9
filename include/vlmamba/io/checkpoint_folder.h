#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace vlmamba::io {

/// The checkpoints of one stage: a folder of step folders `step_00000200`, and `latest`, a file that names one of them.
///
/// A step folder is written under another name, every file synced, `manifest.json` (size and SHA-256 of each file)
/// last, and then renamed: a folder of the right name is whole, or was damaged later, which `verify` finds.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::string path) : path_(std::move(path)) {}

  /// Writes one checkpoint, points `latest` to it and removes all but the newest `keep_last` (0: keeps all). `files`
  /// maps names to bytes that are asked for one at a time. Throws Error (kIo); all earlier checkpoints are then intact.
  void write(int64_t step, const std::map<std::string, std::function<std::string()>>& files, int64_t keep_last) const;

  /// The steps that have a folder, newest first.
  std::vector<int64_t> steps() const;

  std::string step_path(int64_t step) const;

  /// The newest whole checkpoint. `skipped` is told of each one passed over, with the reason.
  std::optional<int64_t> newest(const std::function<void(const std::string&)>& skipped) const;

 private:
  std::string path_;
};

/// Compares a step folder with its manifest. Throws Error (weights) that names the first file that is not as written.
void verify_checkpoint(const std::string& step_folder);

}  // namespace vlmamba::io
