#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/file_writer.h"

namespace vlmamba::io {

/// A file that checkpoints refer to instead of holding a copy.
struct SharedFile {
  std::string path;  ///< absolute
  uint64_t bytes;
  std::string sha256;
};

/// Files named by what they hold, so that the same content is written once: RUN/parts holds frozen parts.
class SharedFiles {
 public:
  explicit SharedFiles(std::string folder) : folder_(std::move(folder)) {}

  /// The file NAME-HASH.safetensors of this content; written, as a whole, where it is not there or is damaged. Throws
  /// WriteError.
  SharedFile put(const std::string& name, const Content& content) const;

 private:
  std::string folder_;
};

/// What a checkpoint consists of, by name: own files, and parts that lie elsewhere.
struct CheckpointContent {
  std::map<std::string, Content> files;
  std::map<std::string, SharedFile> references;

  uint64_t bytes() const;  ///< of its own files
};

/// Writes a checkpoint under another name, every file synced, `manifest.json` (size and SHA-256 of each file) last, and
/// then renames it: a folder of this name is whole, or was damaged later, which `verify_checkpoint` finds. Throws
/// WriteError; nothing of it is left then.
void write_checkpoint(const std::string& folder, const CheckpointContent& content);

/// Compares a checkpoint with its manifest, what it refers to too. Throws Error (weights) that names the first file
/// that is missing or not as written.
void verify_checkpoint(const std::string& folder);

/// The checkpoints of one stage: a folder of step folders `step_00000200`, and `latest`, a file that names one of them.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::string path) : path_(std::move(path)) {}

  /// Writes one checkpoint and points `latest` to it. Throws Error (kIo) with the bytes that are missing on a full
  /// disk; all earlier checkpoints are then intact.
  void write(int64_t step, const CheckpointContent& content) const;

  /// Removes all but the newest `keep_last` (0: keeps all) and `best`.
  void retain(int64_t keep_last, std::optional<int64_t> best) const;

  /// Where training goes on from `step`: what saves that never ended left is removed, and later checkpoints, which were
  /// passed over as damaged, get the suffix `.damaged`, so that they are neither kept nor counted.
  void continue_from(int64_t step) const;

  /// The steps that have a folder, newest first.
  std::vector<int64_t> steps() const;

  std::string step_path(int64_t step) const;

  /// The newest whole checkpoint, which is read once for that. `skipped` is told of each one passed over, with the
  /// reason; `check` may throw Error where one is as it was written, but means nothing.
  std::optional<int64_t> newest(
      const std::function<void(const std::string&)>& skipped,
      const std::function<void(int64_t)>& check = [](int64_t) {}) const;

 private:
  std::string path_;
};

}  // namespace vlmamba::io
