#pragma once

#include <string>
#include <string_view>

#include "vlmamba/core/error.h"

namespace vlmamba::io {

/// The few calls through which everything is written. Tests replace it to make a disk fail.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  /// Makes or truncates `path`, writes all bytes and syncs them. Returns 0 or an errno.
  virtual int write_synced(const std::string& path, std::string_view bytes);
  /// Renames and syncs the folder of `to`. Returns 0 or an errno.
  virtual int rename(const std::string& from, const std::string& to);

  /// The one in use.
  static FileSystem& current();
  /// Puts another in its place, or the real one for null. Returns the one before.
  static FileSystem* replace(FileSystem* other);
};

/// Makes a folder and those above it, where they are not there yet. Throws Error (kIo).
void make_folder(const std::string& path);

/// The bytes of a regular file. Throws Error(code) that names it.
std::string read_file(const std::string& path, ExitCode code);

/// Writes a file as a whole: beside it under a temporary name, synced, then renamed. Throws Error (kIo); whatever was
/// there before is then untouched and no temporary file is left.
void write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace vlmamba::io
